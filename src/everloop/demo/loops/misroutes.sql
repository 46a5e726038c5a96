-- The share of the week's answers that somebody had to correct.
SELECT
    (SELECT count(DISTINCT prediction_id) FROM corrections WHERE contradicts) / count(*) AS value,
    count(*) AS n
FROM predictions
WHERE status = 'ok'
