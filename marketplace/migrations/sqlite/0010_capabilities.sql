-- Active agents are listed under what they can do; those that were there before are, too.
INSERT OR IGNORE INTO tags (market, kind, tag, id)
SELECT agents.market, 'agent', 'can/' || capability.value, agents.id
FROM agents, json_each(agents.body, '$.profile.capabilities') AS capability
WHERE agents.status = 'active';
