-- What records are found by: agents while they are active, open jobs while they are listed. Terms begin with
-- their market and kind, and are of letters and digits only.

CREATE TABLE listings (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    market BIGINT NOT NULL,
    kind   TEXT   COLLATE "C" NOT NULL,
    id     UUID   NOT NULL,
    rank   BIGINT NOT NULL CHECK (rank BETWEEN 0 AND 67108863),
    title  TEXT   NOT NULL,
    text   TEXT   NOT NULL,
    terms  TEXT   NOT NULL,
    found  TSVECTOR GENERATED ALWAYS AS (array_to_tsvector(string_to_array(terms, ' '))) STORED,
    CONSTRAINT listings_key UNIQUE (market, kind, id)
);
CREATE INDEX listings_rank  ON listings (market, kind, rank DESC, number);
CREATE INDEX listings_found ON listings USING gin (found) WITH (gin_pending_list_limit = 256);

-- Planned anew each time, with the terms known: a rare one is looked up in the text index, one that most
-- entries have is met soon in the order of rank.
CREATE FUNCTION sought(of_market BIGINT, of_kind TEXT, wanted TEXT, most BIGINT, skipped BIGINT)
RETURNS TABLE (id UUID, rank BIGINT, title TEXT, text TEXT) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE
        'SELECT id, rank, title, text FROM listings WHERE market = $1 AND kind = $2 AND found @@ $3
         ORDER BY rank DESC, number LIMIT $4 OFFSET $5'
        USING of_market, of_kind, wanted::tsquery, most, skipped;
END $$;
