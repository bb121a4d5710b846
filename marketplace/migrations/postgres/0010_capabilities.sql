-- Active agents are listed under what they can do; those that were there before are, too.
INSERT INTO tags (market, kind, tag, id)
SELECT agents.market, 'agent', 'can/' || capability, agents.id
FROM agents, jsonb_array_elements_text(COALESCE(agents.body::jsonb -> 'profile' -> 'capabilities', '[]')) AS capability
WHERE agents.status = 'active'
ON CONFLICT DO NOTHING;
