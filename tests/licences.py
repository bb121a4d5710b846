"""Checks the licences of all dependencies against deny.toml: cargo metadata … | licences.py deny.toml"""

import json
import re
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    licences = tomllib.load(file)["licenses"]
allowed = set(licences["allow"])
# Packages that carry their licence as a text only, and which one it is.
clarified = {entry["crate"]: entry["expression"] for entry in licences.get("clarify", [])}


def permits(expression: str) -> bool:
    """Whether an SPDX expression of the form `(A OR B) AND C` can be satisfied with what is allowed."""
    parts = re.split(r"\s+AND\s+", expression.replace("/", " OR "))
    return all(any(licence.strip(" ()") in allowed for licence in part.split(" OR ")) for part in parts)


packages = [p for p in json.load(sys.stdin)["packages"] if p["source"]]
for package in packages:
    package["license"] = package["license"] or clarified.get(package["name"])
refused = [f'{p["name"]} {p["version"]}: {p["license"]}' for p in packages if not (p["license"] and permits(p["license"]))]
print(f"{len(packages)} dependencies, {len(refused)} not allowed", *refused, sep="\n  ")
sys.exit(bool(refused) or not packages)
