-- What records are found by: agents while they are active, open jobs while they are listed.

CREATE TABLE listings (
    number INTEGER PRIMARY KEY AUTOINCREMENT CHECK (number < 137438953472),
    market INTEGER NOT NULL,
    kind   TEXT    NOT NULL,
    id     BLOB    NOT NULL CHECK (length(id) = 16),
    rank   INTEGER NOT NULL CHECK (rank BETWEEN 0 AND 67108863),
    title  TEXT    NOT NULL,
    text   TEXT    NOT NULL,
    terms  TEXT    NOT NULL,
    CONSTRAINT listings_key UNIQUE (market, kind, id)
) STRICT;
CREATE INDEX listings_rank ON listings (market, kind, rank DESC, number);

-- The text index. An entry's place in it is its rank, counted down from the highest, and its number: so the index
-- gives the highest rank first, and the first of a rank, without looking at the others. Terms begin with their
-- market and kind, and are of letters and digits only.
CREATE VIRTUAL TABLE listed_terms USING fts5 (
    terms, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii'
);

CREATE TRIGGER listings_added AFTER INSERT ON listings BEGIN
    INSERT INTO listed_terms (rowid, terms) VALUES (((67108863 - NEW.rank) << 37) + NEW.number, NEW.terms);
END;
CREATE TRIGGER listings_moved AFTER UPDATE ON listings BEGIN
    DELETE FROM listed_terms WHERE rowid = ((67108863 - OLD.rank) << 37) + OLD.number;
    INSERT INTO listed_terms (rowid, terms) VALUES (((67108863 - NEW.rank) << 37) + NEW.number, NEW.terms);
END;
CREATE TRIGGER listings_gone AFTER DELETE ON listings BEGIN
    DELETE FROM listed_terms WHERE rowid = ((67108863 - OLD.rank) << 37) + OLD.number;
END;
