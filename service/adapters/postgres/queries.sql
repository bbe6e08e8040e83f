-- Every statement that the service runs. Each begins with `-- name:`, then says what it is for; `-- =` lines are headings.

-- ============================================================================ locks (locks.py says how they are used)

-- name: lock_exclusive
-- Take exclusive locks of ($1 spaces, $2 buckets), in the order given, until the transaction ends.
SELECT pg_advisory_xact_lock(space, bucket)
  FROM unnest($1::int4[], $2::int4[]) WITH ORDINALITY AS k (space, bucket, position)
 ORDER BY position;

-- name: lock_try_exclusive
-- Take the exclusive lock of space $1 and bucket $2 until the transaction ends, unless somebody holds it: then false.
SELECT pg_try_advisory_xact_lock($1::int4, $2::int4);

-- ================================================================================================= access (access.py)

-- name: access_principal
-- The user whose token has the hash $1, and what the token allows; no row where it has expired or was revoked.
SELECT u.id, u.username, u.full_name, u.organisation, t.scope, t.deployments
  FROM tokens t JOIN users u ON u.id = t.user_id
 WHERE t.hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp());

-- name: deployment_organisation
-- Organisation of deployment $1; no row where it does not exist or was deleted.
SELECT organisation FROM deployments WHERE id = $1 AND deleted_at IS NULL;

-- name: user_add
-- Add user $1 with username $2, full name $3 and organisation $4, made at $5; no row where the name is taken.
INSERT INTO users (id, username, full_name, organisation, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (username) DO NOTHING
RETURNING id;

-- name: user_list
-- The user of name $1, or everybody, by name.
SELECT id, username, full_name, organisation, created_at FROM users
 WHERE $1::text IS NULL OR username = $1 ORDER BY username;

-- name: token_add
-- Add token $1 of hash $2 for user $3, with scope $4, for deployments $5 (null: all), until $6 (null: for good).
INSERT INTO tokens (id, hash, user_id, scope, deployments, expires_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: token_list
-- Tokens of the user of name $1, or of everybody, the oldest first.
SELECT t.id, u.username, u.organisation, t.scope, t.deployments, t.created_at, t.expires_at, t.revoked_at
  FROM tokens t JOIN users u ON u.id = t.user_id
 WHERE $1::text IS NULL OR u.username = $1 ORDER BY t.created_at, t.id;

-- name: token_revoke
-- Revoke token $1; no row where there is none.
UPDATE tokens SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = $1 RETURNING id;

-- =================================================================================== status tasks (status_tasks.py)

-- name: task_add
-- Add a running task $1 of user $2 for deployment $3, of kind $4, described by $5, held for $6 from now.
INSERT INTO status_tasks (id, user_id, deployment_id, kind, description, status, held_until)
VALUES ($1, $2, $3, $4, $5, 'RUNNING', clock_timestamp() + $6::interval);

-- name: submission_add
-- Make task $1 a submission to deployment $2, of which no record is acknowledged yet.
INSERT INTO submissions (id, deployment_id) VALUES ($1, $2);

-- name: task_complete_counted
-- Complete the submissions of which every record is counted: task $1 or all, of user $2 or all.
UPDATE status_tasks t SET status = 'COMPLETED', ended_at = clock_timestamp(), held_until = NULL
  FROM submissions s
 WHERE s.id = t.id AND t.ended_at IS NULL AND ($1::text IS NULL OR t.id = $1) AND ($2::text IS NULL OR t.user_id = $2)
   AND s.records <= (SELECT coalesce(sum(c.records), 0) FROM submission_counts c WHERE c.submission_id = t.id);

-- name: task_give_up_silent
-- End the tasks whose process has fallen silent: task $1 or all, of user $2 or all.
UPDATE status_tasks t
   SET status = 'ERROR', code = 503, ended_at = clock_timestamp(), held_until = NULL,
       message = 'the process that worked on it has died' || coalesce((
         SELECT format('; %s records were acknowledged until then, and count', s.acknowledged)
           FROM submissions s WHERE s.id = t.id), '')
 WHERE t.ended_at IS NULL AND t.held_until < clock_timestamp()
   AND ($1::text IS NULL OR t.id = $1) AND ($2::text IS NULL OR t.user_id = $2);

-- name: task_find
-- Task $1 of user $2, with what is known of its records.
SELECT t.id, t.user_id, t.deployment_id, t.kind, t.description, t.status, t.code, t.message, t.created_at,
       t.ended_at IS NULL AND t.held_until < clock_timestamp() AS is_silent,
       s.records, s.acknowledged, s.invalid, s.invalid_told,
       (SELECT jsonb_object_agg(c.status, c.records)
          FROM (SELECT status, sum(records)::bigint AS records FROM submission_counts
                 WHERE submission_id = t.id GROUP BY status) c) AS counted
  FROM status_tasks t LEFT JOIN submissions s ON s.id = t.id
 WHERE t.id = $1 AND t.user_id = $2 AND t.destroyed_at IS NULL
   AND (t.ended_at IS NULL OR t.ended_at > clock_timestamp() - interval '24 hours');

-- name: task_unended
-- Tasks of user $1 that go on, newest first, $3 of them (null: all) from position $2, with what is known of their records.
SELECT t.id, t.user_id, t.deployment_id, t.kind, t.description, t.status, t.code, t.message, t.created_at,
       t.ended_at IS NULL AND t.held_until < clock_timestamp() AS is_silent,
       s.records, s.acknowledged, s.invalid, s.invalid_told,
       (SELECT jsonb_object_agg(c.status, c.records)
          FROM (SELECT status, sum(records)::bigint AS records FROM submission_counts
                 WHERE submission_id = t.id GROUP BY status) c) AS counted
  FROM status_tasks t LEFT JOIN submissions s ON s.id = t.id
 WHERE t.user_id = $1 AND t.destroyed_at IS NULL AND t.ended_at IS NULL
 ORDER BY t.created_at DESC, t.id LIMIT $3 OFFSET $2;

-- name: task_count_unended
-- How many tasks of user $1 go on.
SELECT count(*) FROM status_tasks WHERE user_id = $1 AND destroyed_at IS NULL AND ended_at IS NULL;

-- name: task_destroy
-- Let task $1 of user $2 be gone for everybody; its rows stay until they are forgotten. No row where it is not there.
UPDATE status_tasks
   SET destroyed_at = clock_timestamp(), ended_at = coalesce(ended_at, clock_timestamp()), held_until = NULL
 WHERE id = $1 AND user_id = $2 AND destroyed_at IS NULL
   AND (ended_at IS NULL OR ended_at > clock_timestamp() - interval '24 hours')
RETURNING id;

-- name: task_hold
-- The process that works on task $1 is alive for another $2; no row where the task has ended.
UPDATE status_tasks SET held_until = clock_timestamp() + $2::interval WHERE id = $1 AND ended_at IS NULL RETURNING id;

-- name: submission_progress
-- Of submission $1, $2 records are acknowledged and $3 rows were left out so far.
UPDATE submissions SET acknowledged = $2, invalid = $3 WHERE id = $1;

-- name: submission_produced
-- All $2 records of submission $1 are acknowledged; $3 rows were left out, of which $4 tells.
UPDATE submissions SET records = $2, acknowledged = $2, invalid = $3, invalid_told = $4 WHERE id = $1;

-- name: task_release
-- No process works on task $1 any more.
UPDATE status_tasks SET held_until = NULL WHERE id = $1;

-- name: task_end
-- End task $1 with status $2, code $3 and message $4, unless it has ended.
UPDATE status_tasks SET status = $2, code = $3, message = $4, ended_at = clock_timestamp(), held_until = NULL
 WHERE id = $1 AND ended_at IS NULL;

-- name: task_forget
-- Forget the tasks that ended more than $1 ago, and what belongs to them.
WITH gone AS (DELETE FROM status_tasks WHERE ended_at < clock_timestamp() - $1::interval RETURNING id),
     keys AS (DELETE FROM idempotency_keys WHERE created_at < clock_timestamp() - $1::interval)
DELETE FROM submissions WHERE id IN (SELECT id FROM gone);

-- name: submission_counts_forget
-- Forget the counts of submissions that nobody asks for any more.
DELETE FROM submission_counts c WHERE NOT EXISTS (SELECT FROM submissions s WHERE s.id = c.submission_id);

-- ============================================================== rows that come in through an API (intake.py)

-- name: intake_facts
-- What the check of rows for deployment $1 depends on, and its undeleted monitoring batch $2 where it has that.
SELECT d.id, d.version, d.target_type, d.class_names, d.classes_learned, d.positive_class, d.threshold,
       d.current_model_id, d.association_required, d.join_window, d.join_grace, d.allowed_lateness, d.early_ttl,
       d.idle_timeout, d.max_future_skew, d.late_policy, d.actual_order, d.batch_enabled, d.batch_policy,
       d.last_deletion, d.association_columns,
       (SELECT jsonb_object_agg(m.id, m.threshold) FROM models m WHERE m.deployment_id = d.id) AS models,
       NULL::jsonb AS layouts,
       coalesce((d.settings ->> 'auto_generate')::boolean, false) AS ids_generated,
       b.id AS batch_id, b.version AS batch_version, b.name AS batch_name, b.is_locked
  FROM deployments d
  LEFT JOIN monitoring_batches b ON b.deployment_id = d.id AND b.id = $2 AND b.deleted_at IS NULL
 WHERE d.id = $1 AND d.deleted_at IS NULL;

-- name: intake_take
-- Count $4 records of kind $2 of deployment $1 in hour $3; no row where there would be more than $5. Hours that are over go.
WITH over AS (DELETE FROM intake_hours WHERE deployment_id = $1 AND kind = $2 AND hour < $3)
INSERT INTO intake_hours AS h (deployment_id, kind, hour, records)
SELECT $1, $2, $3, $4::bigint WHERE $4 <= $5::bigint
ON CONFLICT (deployment_id, kind, hour) DO UPDATE SET records = h.records + excluded.records
 WHERE h.records + excluded.records <= $5
RETURNING records;

-- name: idempotency_key_find
-- What key $2 of user $1 has stood for since less than a day.
SELECT task_id, request_hash FROM idempotency_keys
 WHERE user_id = $1 AND key = $2 AND created_at > clock_timestamp() - interval '24 hours';

-- name: idempotency_key_claim
-- Let key $2 of user $1 stand for task $3 and request $4; no row where it has stood for another since less than a day.
INSERT INTO idempotency_keys AS k (user_id, key, task_id, request_hash) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, key) DO UPDATE
   SET task_id = excluded.task_id, request_hash = excluded.request_hash, created_at = clock_timestamp()
 WHERE k.created_at <= clock_timestamp() - interval '24 hours'
RETURNING task_id;

-- name: task_reopen
-- Let task $1, which ended as an error, go on, held for $2 from now; how many of its records are acknowledged.
WITH opened AS (
  UPDATE status_tasks
     SET status = 'RUNNING', code = 0, message = NULL, ended_at = NULL, held_until = clock_timestamp() + $2::interval
   WHERE id = $1 AND status = 'ERROR' AND destroyed_at IS NULL
  RETURNING id)
UPDATE submissions s SET records = NULL FROM opened WHERE s.id = opened.id RETURNING s.acknowledged;

-- ============================================================== deployments, as the pipeline needs them (catalog.py)

-- name: catalog_deployments
-- Deployments of $1 ids that are not deleted, with the threshold of each model and the baseline layouts of all models.
SELECT d.id, d.version, d.target_type, d.class_names, d.classes_learned, d.positive_class, d.threshold,
       d.current_model_id, d.association_required, d.join_window, d.join_grace, d.allowed_lateness, d.early_ttl,
       d.idle_timeout, d.max_future_skew, d.late_policy, d.actual_order, d.batch_enabled, d.batch_policy,
       d.last_deletion,
       (SELECT jsonb_object_agg(m.id, m.threshold) FROM models m WHERE m.deployment_id = d.id) AS models,
       (SELECT jsonb_agg(jsonb_build_array(b.model_id, b.layout))
          FROM baselines b WHERE b.deployment_id = d.id) AS layouts
  FROM deployments d
 WHERE d.id = ANY ($1::text[]) AND d.deleted_at IS NULL;

-- name: catalog_batches
-- Monitoring batches of ($1 deployment ids, $2 batch ids), deleted ones too.
SELECT b.deployment_id, b.id, b.version, b.name, b.is_locked, b.deleted_at IS NOT NULL AS is_deleted
  FROM monitoring_batches b
  JOIN unnest($1::text[], $2::text[]) AS wanted (deployment_id, id) USING (deployment_id, id);

-- name: catalog_batches_named
-- The oldest undeleted monitoring batch of each of ($1 deployment ids, $2 names).
SELECT DISTINCT ON (b.deployment_id, b.name)
       b.deployment_id, b.id, b.version, b.name, b.is_locked, false AS is_deleted
  FROM monitoring_batches b
  JOIN unnest($1::text[], $2::text[]) AS wanted (deployment_id, name) USING (deployment_id, name)
 WHERE b.deleted_at IS NULL
 ORDER BY b.deployment_id, b.name, b.created_at, b.id;

-- name: deployment_from_events
-- Create deployment $1 of type $2 with classes $3 (learned: $4), positive class $5 and model $6; nothing where it exists.
INSERT INTO deployments (id, label, origin, target_type, class_names, classes_learned, positive_class, current_model_id,
                         association_columns, batch_enabled)
VALUES ($1, $1, 'events', $2, $3, $4, $5, $6, '{associationId}', true)
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: deployments_longest_row
-- How long a row of any deployment may live.
SELECT max(greatest(join_window + join_grace, early_ttl)) FROM deployments WHERE deleted_at IS NULL;

-- name: deployment_known
-- What deployment $1 has learned so far: its classes, whether it learns any, and its models.
SELECT d.class_names, d.classes_learned, (SELECT array_agg(m.id) FROM models m WHERE m.deployment_id = d.id) AS models
  FROM deployments d
 WHERE d.id = $1 AND d.deleted_at IS NULL;

-- name: deployment_learns
-- Append classes $2 to deployment $1 and raise its version.
UPDATE deployments SET class_names = class_names || $2::text[], version = version + 1 WHERE id = $1;

-- name: models_add
-- Register models $2 of deployment $1, named by their ids; nothing where they exist.
INSERT INTO models (deployment_id, id, name)
SELECT $1, id, id FROM unnest($2::text[]) AS new (id)
ON CONFLICT (deployment_id, id) DO NOTHING;

-- ==================================================================== deployments, as the use cases need them

-- name: deployment_find
-- All of deployment $1, deleted or not, with its models and baselines.
SELECT d.*,
       (SELECT jsonb_agg(jsonb_build_object('id', m.id, 'name', m.name, 'threshold', m.threshold)
                         ORDER BY m.created_at, m.id)
          FROM models m WHERE m.deployment_id = d.id) AS models,
       (SELECT jsonb_agg(jsonb_build_object('model_id', b.model_id, 'kind', b.kind, 'version', b.version,
                                            'method', b.method, 'rows', b.rows, 'layout', b.layout,
                                            'counts', to_jsonb(b.counts), 'start_at', b.start_at, 'end_at', b.end_at)
                         ORDER BY b.model_id, b.kind)
          FROM baselines b WHERE b.deployment_id = d.id) AS baselines
  FROM deployments d
 WHERE d.id = $1;

-- name: deployment_list
-- Every deployment that is not deleted, with the number of its monitoring batches, by id.
SELECT d.id, d.label, d.origin, d.target_type, d.current_model_id, d.version, d.created_at,
       (SELECT count(*) FROM monitoring_batches b WHERE b.deployment_id = d.id AND b.deleted_at IS NULL) AS batches
  FROM deployments d
 WHERE d.deleted_at IS NULL
 ORDER BY d.id;

-- name: deployment_views
-- Undeleted deployments of organisation $1, of ids $2 or all, that match $3 or all, ordered by $4, $5 of them from position $6:
-- everything about each, rows per day from $7 to before $8, and its newest prediction.
WITH listed AS (
  SELECT d.*,
         coalesce((d.settings #>> '{target_drift,enabled}')::boolean, false)
           OR coalesce((d.settings #>> '{feature_drift,enabled}')::boolean, false) AS judges_drift,
         d.association_columns <> '{}'
           OR EXISTS (SELECT 1 FROM clocks k WHERE k.deployment_id = d.id AND k.actuals_received > 0) AS judges_accuracy
    FROM deployments d
   WHERE d.organisation = $1 AND d.deleted_at IS NULL AND ($2::text[] IS NULL OR d.id = ANY ($2))
     AND ($3::text IS NULL OR d.id = $3 OR position(lower($3) IN lower(d.label)) > 0
          OR position(lower($3) IN lower(d.description)) > 0)
), page AS MATERIALIZED (
  SELECT listed.*,
         row_number() OVER (ORDER BY CASE $4 WHEN 'label' THEN label END, CASE $4 WHEN '-label' THEN label END DESC,
                                     CASE $4 WHEN 'created_at' THEN created_at END,
                                     CASE $4 WHEN '-created_at' THEN created_at END DESC,
                                     CASE $4 WHEN 'model_health' THEN judges_drift END,
                                     CASE $4 WHEN '-model_health' THEN judges_drift END DESC,
                                     CASE $4 WHEN 'accuracy_health' THEN judges_accuracy END,
                                     CASE $4 WHEN '-accuracy_health' THEN judges_accuracy END DESC, id) AS place
    FROM listed ORDER BY place LIMIT $5 OFFSET $6
)
SELECT page.*, days.rates, newest.last_at,
       (SELECT jsonb_build_object('id', m.id, 'name', m.name, 'threshold', m.threshold)
          FROM models m WHERE m.deployment_id = page.id AND m.id = page.current_model_id) AS model,
       (SELECT jsonb_agg(jsonb_build_object('model_id', b.model_id, 'kind', b.kind, 'version', b.version,
                                            'method', b.method, 'rows', b.rows, 'created_at', b.created_at)
                         ORDER BY b.model_id, b.kind)
          FROM baselines b WHERE b.deployment_id = page.id) AS baselines
  FROM page
 CROSS JOIN LATERAL (SELECT ARRAY (SELECT b.id FROM monitoring_batches b
                                    WHERE b.deployment_id = page.id AND b.deleted_at IS NOT NULL) AS batches) gone
 CROSS JOIN LATERAL (SELECT jsonb_object_agg(day, predictions) AS rates
                       FROM (SELECT (c.hour AT TIME ZONE 'UTC')::date AS day, sum(c.predictions)::bigint AS predictions
                               FROM prediction_cells c
                              WHERE c.deployment_id = page.id AND c.segment = '' AND c.hour >= $7 AND c.hour < $8
                                AND c.batch_id <> ALL (gone.batches)
                              GROUP BY day) sums) days
 CROSS JOIN LATERAL (SELECT max(c.last_at) AS last_at
                       FROM prediction_cells c
                      WHERE c.deployment_id = page.id AND c.segment = '' AND c.batch_id <> ALL (gone.batches)
                        AND c.hour >= (SELECT date_trunc('day', n.hour, 'UTC')
                                         FROM prediction_cells n
                                        WHERE n.deployment_id = page.id AND n.segment = ''
                                          AND n.batch_id <> ALL (gone.batches)
                                        ORDER BY n.hour DESC LIMIT 1)) newest
 ORDER BY page.place;

-- name: deployment_views_count
-- How many deployments `deployment_views` has in all, of organisation $1, ids $2 and search $3.
SELECT count(*) FROM deployments d
 WHERE d.organisation = $1 AND d.deleted_at IS NULL AND ($2::text[] IS NULL OR d.id = ANY ($2))
   AND ($3::text IS NULL OR d.id = $3 OR position(lower($3) IN lower(d.label)) > 0
        OR position(lower($3) IN lower(d.description)) > 0);

-- name: deployment_version
-- Version of deployment $1, deleted or not.
SELECT version FROM deployments WHERE id = $1;

-- name: deployment_save
-- Write every setting of deployment $1; a new one begins at version 1, a known one rises by one and keeps its organisation.
INSERT INTO deployments (id, label, description, origin, target_name, target_type, class_names, classes_learned,
                         positive_class, threshold, current_model_id, features, association_columns,
                         association_required, join_window, join_grace, allowed_lateness, early_ttl, idle_timeout,
                         max_future_skew, late_policy, actual_order, batch_enabled, batch_policy, organisation, settings,
                         health_settings, accuracy_aggregation)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
        $25, $26, $27, $28)
ON CONFLICT (id) DO UPDATE SET
  label = EXCLUDED.label, description = EXCLUDED.description, origin = EXCLUDED.origin,
  target_name = EXCLUDED.target_name, target_type = EXCLUDED.target_type, class_names = EXCLUDED.class_names,
  classes_learned = EXCLUDED.classes_learned, positive_class = EXCLUDED.positive_class,
  threshold = EXCLUDED.threshold, current_model_id = EXCLUDED.current_model_id, features = EXCLUDED.features,
  association_columns = EXCLUDED.association_columns, association_required = EXCLUDED.association_required,
  join_window = EXCLUDED.join_window, join_grace = EXCLUDED.join_grace, allowed_lateness = EXCLUDED.allowed_lateness,
  early_ttl = EXCLUDED.early_ttl, idle_timeout = EXCLUDED.idle_timeout, max_future_skew = EXCLUDED.max_future_skew,
  late_policy = EXCLUDED.late_policy, actual_order = EXCLUDED.actual_order, batch_enabled = EXCLUDED.batch_enabled,
  batch_policy = EXCLUDED.batch_policy, settings = EXCLUDED.settings, health_settings = EXCLUDED.health_settings,
  accuracy_aggregation = EXCLUDED.accuracy_aggregation, version = deployments.version + 1
RETURNING version;

-- name: deployment_is_associated
-- Whether deployment $1 has accepted a prediction with an ID: one that neither was refused nor came without any.
SELECT coalesce(sum(predictions_received - coalesce((dispositions ->> 'PREDICTION_REJECTED')::bigint, 0)
                                         - coalesce((dispositions ->> 'PREDICTION_UNIDENTIFIED')::bigint, 0)), 0) > 0
  FROM clocks WHERE deployment_id = $1;

-- name: deployment_delete
-- Delete deployment $1 and take the next number for that; no row where it does not exist.
UPDATE deployments SET deleted_at = clock_timestamp(), last_deletion = last_deletion + 1, version = version + 1
 WHERE id = $1 AND deleted_at IS NULL
RETURNING last_deletion;

-- name: deletion_of_deployment
-- Number ($2) the deletion of deployment $1 itself.
INSERT INTO deletions (deployment_id, number, kind) VALUES ($1, $2, 'deployment');

-- name: model_save
-- Register model $2 of deployment $1 by name $3 with threshold $4, for reason $5; or name it so, and say why if that is told.
INSERT INTO models (deployment_id, id, name, threshold, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (deployment_id, id) DO UPDATE SET name = EXCLUDED.name, reason = coalesce(EXCLUDED.reason, models.reason);

-- name: baseline_save
-- Write the baseline of deployment $1, model $2 and kind $3 (method $4, rows $5, layout $6, counts $7) from $8 to $9.
INSERT INTO baselines (deployment_id, model_id, kind, version, method, rows, layout, counts, start_at, end_at)
VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9)
ON CONFLICT (deployment_id, model_id, kind) DO UPDATE SET
  version = baselines.version + 1, method = EXCLUDED.method, rows = EXCLUDED.rows, layout = EXCLUDED.layout,
  counts = EXCLUDED.counts, start_at = EXCLUDED.start_at, end_at = EXCLUDED.end_at
RETURNING version;

-- name: baseline_keep
-- Write the baseline of deployment $1, model $2 and kind $3 (method $4, rows $5, layout $6, counts $7) from $8 to $9, with what
-- is counted of its predictions ($10; null leaves what is there).
INSERT INTO baselines (deployment_id, model_id, kind, version, method, rows, layout, counts, start_at, end_at, holdout)
VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (deployment_id, model_id, kind) DO UPDATE SET
  version = baselines.version + 1, method = EXCLUDED.method, rows = EXCLUDED.rows, layout = EXCLUDED.layout,
  counts = EXCLUDED.counts, start_at = EXCLUDED.start_at, end_at = EXCLUDED.end_at,
  holdout = coalesce(EXCLUDED.holdout, baselines.holdout);

-- name: baseline_holdout
-- What is counted of the predictions of the holdout of model $2 of deployment $1, and by which threshold the model is judged.
SELECT coalesce(m.threshold, d.threshold) AS threshold,
       (SELECT b.holdout FROM baselines b
         WHERE b.deployment_id = d.id AND b.model_id = m.id AND b.kind = 'holdout') AS holdout
  FROM deployments d JOIN models m ON m.deployment_id = d.id
 WHERE d.id = $1 AND m.id = $2;

-- name: deployment_moved
-- Raise the version of deployment $1, so that every worker reads it again.
UPDATE deployments SET version = version + 1 WHERE id = $1;

-- ======================================================================================= monitoring batches

-- name: batch_list
-- Undeleted monitoring batches of deployment $1 with their figures: made by user $2, with id $3 or a name like $4, created
-- after $5 and before $6, with a first prediction after $7 and a last one before $8, where those are not null; ordered by
-- $9 (name|created_at|first_at|last_at), descending with $10; $11 of them from position $12. The total is in every row; a
-- page without batches is one row of nulls, and no row means no deployment. Where neither order nor filter asks for
-- figures, the page is chosen before any cell is read.
WITH asked AS MATERIALIZED (
  SELECT b.* FROM monitoring_batches b
   WHERE b.deployment_id = $1 AND b.deleted_at IS NULL
     AND ($2::text IS NULL OR b.created_by ->> 'id' = $2)
     AND ($3::text IS NULL OR b.id = $3 OR b.name ~ $4::text)
     AND ($5::timestamptz IS NULL OR b.created_at > $5)
     AND ($6::timestamptz IS NULL OR b.created_at < $6)
), way AS MATERIALIZED (
  SELECT $7::timestamptz IS NOT NULL OR $8::timestamptz IS NOT NULL OR $9::text IN ('first_at', 'last_at') AS by_figures
), chosen AS MATERIALIZED (
  SELECT * FROM asked
   ORDER BY CASE WHEN $9 = 'name' AND NOT $10::boolean THEN name COLLATE "C" END,
            CASE WHEN $9 = 'name' AND $10 THEN name COLLATE "C" END DESC,
            CASE WHEN NOT $10 THEN created_at END,
            CASE WHEN $10 THEN created_at END DESC,
            id
   LIMIT CASE WHEN (SELECT by_figures FROM way) THEN NULL ELSE $11::bigint END
  OFFSET CASE WHEN (SELECT by_figures FROM way) THEN 0 ELSE $12::bigint END
), found AS MATERIALIZED (
  SELECT chosen.*, coalesce(f.predictions, 0) AS predictions, f.first_at, f.last_at
    FROM chosen
    LEFT JOIN LATERAL (
      SELECT sum(m.predictions)::bigint AS predictions, min(coalesce(o.start_at, m.first_at)) AS first_at,
             max(coalesce(o.end_at, m.last_at)) AS last_at
        FROM (SELECT model_id, sum(predictions) AS predictions, min(first_at) AS first_at, max(last_at) AS last_at
                FROM prediction_cells WHERE deployment_id = $1 AND batch_id = chosen.id AND segment = ''
               GROUP BY model_id HAVING sum(predictions) > 0) m
        LEFT JOIN monitoring_batch_models o
          ON o.deployment_id = $1 AND o.batch_id = chosen.id AND o.model_id = m.model_id) f ON true
   WHERE ($7 IS NULL OR f.first_at > $7) AND ($8 IS NULL OR f.last_at < $8)
), keyed AS (
  SELECT found.*, CASE WHEN $9 = 'name' THEN name COLLATE "C" END AS by_name,
         CASE $9 WHEN 'created_at' THEN created_at WHEN 'first_at' THEN coalesce(first_at, created_at)
                 WHEN 'last_at' THEN coalesce(last_at, created_at) END AS by_time
    FROM found
), numbered AS (
  SELECT keyed.*, row_number() OVER (
           ORDER BY CASE WHEN NOT $10 THEN by_name END, CASE WHEN $10 THEN by_name END DESC,
                    CASE WHEN NOT $10 THEN by_time END, CASE WHEN $10 THEN by_time END DESC, id) AS place
    FROM keyed
), page AS (
  SELECT * FROM numbered ORDER BY place LIMIT $11 OFFSET CASE WHEN (SELECT by_figures FROM way) THEN $12 ELSE 0 END
)
SELECT page.*, CASE WHEN way.by_figures THEN (SELECT count(*) FROM found) ELSE (SELECT count(*) FROM asked) END AS total
  FROM way LEFT JOIN page ON true
 WHERE EXISTS (SELECT 1 FROM deployments d WHERE d.id = $1 AND d.deleted_at IS NULL)
 ORDER BY page.place;

-- name: batch_find
-- Undeleted monitoring batch $2 of deployment $1 with its figures.
SELECT b.*, coalesce(c.predictions, 0) AS predictions, c.first_at, c.last_at
  FROM monitoring_batches b
  LEFT JOIN LATERAL (
    SELECT sum(m.predictions)::bigint AS predictions, min(coalesce(o.start_at, m.first_at)) AS first_at,
           max(coalesce(o.end_at, m.last_at)) AS last_at
      FROM (SELECT model_id, sum(predictions) AS predictions, min(first_at) AS first_at, max(last_at) AS last_at
              FROM prediction_cells WHERE deployment_id = $1 AND batch_id = $2 AND segment = ''
             GROUP BY model_id HAVING sum(predictions) > 0) m
      LEFT JOIN monitoring_batch_models o
        ON o.deployment_id = $1 AND o.batch_id = $2 AND o.model_id = m.model_id) c ON true
 WHERE b.deployment_id = $1 AND b.id = $2 AND b.deleted_at IS NULL;

-- name: batch_count_created
-- Number of undeleted monitoring batches of deployment $1 that somebody asked for.
SELECT count(*) FROM monitoring_batches
 WHERE deployment_id = $1 AND deleted_at IS NULL AND origin IN ('api', 'job');

-- name: batch_room
-- Whether deployment $1 monitors batches, and how many of the undeleted ones somebody asked for.
SELECT d.batch_enabled,
       (SELECT count(*) FROM monitoring_batches b
         WHERE b.deployment_id = d.id AND b.deleted_at IS NULL AND b.origin IN ('api', 'job')) AS created
  FROM deployments d
 WHERE d.id = $1 AND d.deleted_at IS NULL;

-- name: batch_open
-- Open monitoring batch $2 of deployment $1 by name $3 (null: by its creation), description $4, origin $5, URL $6, locked
-- with $7 and made by $8.
INSERT INTO monitoring_batches
       (deployment_id, id, name, description, origin, external_context_url, is_locked, created_by, created_at)
SELECT $1, $2, coalesce($3, to_char(now AT TIME ZONE 'UTC', '"Batch "YYYY-MM-DD"T"HH24:MI:SS.US"Z"')), $4, $5, $6, $7, $8,
       now
  FROM clock_timestamp() AS now
RETURNING deployment_id, id, version, name, is_locked, false AS is_deleted, created_at;

-- name: batch_namesakes
-- The undeleted monitoring batches of deployment $1 by name $2.
SELECT id FROM monitoring_batches WHERE deployment_id = $1 AND name = $2 AND deleted_at IS NULL;

-- name: batch_for_change
-- Undeleted monitoring batch $2 of deployment $1, held against other changes, and whether batches are monitored.
SELECT b.id, b.name, b.description, b.external_context_url, b.is_locked, d.batch_enabled
  FROM monitoring_batches b JOIN deployments d ON d.id = b.deployment_id
 WHERE b.deployment_id = $1 AND b.id = $2 AND b.deleted_at IS NULL AND d.deleted_at IS NULL
   FOR NO KEY UPDATE OF b;

-- name: batch_change
-- Give monitoring batch $2 of deployment $1 name $3, description $4 and URL $5, lock it with $6, and raise its version by $7.
UPDATE monitoring_batches
   SET name = $3, description = $4, external_context_url = $5, is_locked = $6, version = version + $7
 WHERE deployment_id = $1 AND id = $2
RETURNING clock_timestamp();

-- name: batch_outrank
-- Raise the version of every other undeleted monitoring batch of deployment $1 that is named as batch $2 is now: $3.
UPDATE monitoring_batches SET version = version + 1
 WHERE deployment_id = $1 AND id <> $2 AND name = $3 AND deleted_at IS NULL;

-- name: batch_delete
-- Delete monitoring batch $2 of deployment $1; no row where it does not exist.
UPDATE monitoring_batches SET deleted_at = clock_timestamp(), version = version + 1
 WHERE deployment_id = $1 AND id = $2 AND deleted_at IS NULL
RETURNING name, deleted_at AS at;

-- name: batch_exists
-- Whether monitoring batch $2 of deployment $1 exists and is not deleted.
SELECT EXISTS (SELECT 1 FROM monitoring_batches WHERE deployment_id = $1 AND id = $2 AND deleted_at IS NULL);

-- name: batch_hold
-- Hold undeleted monitoring batch $2 of deployment $1 against other changes.
SELECT id FROM monitoring_batches WHERE deployment_id = $1 AND id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE;

-- name: batch_models
-- Models with rows in monitoring batch $2 of deployment $1, of id $3 where that is not null, with bounds that were set before
-- those of the rows; by start, $4 of them from position $5. The total is in every row; one row of nulls where none is there.
WITH models AS MATERIALIZED (
  SELECT $2::text AS batch_id, m.model_id, m.predictions, coalesce(o.start_at, m.first_at) AS start_at,
         coalesce(o.end_at, m.last_at) AS end_at
    FROM (SELECT model_id, sum(predictions)::bigint AS predictions, min(first_at) AS first_at, max(last_at) AS last_at
            FROM prediction_cells
           WHERE deployment_id = $1 AND batch_id = $2 AND segment = '' AND ($3::text IS NULL OR model_id = $3)
           GROUP BY model_id HAVING sum(predictions) > 0) m
    LEFT JOIN monitoring_batch_models o
      ON o.deployment_id = $1 AND o.batch_id = $2 AND o.model_id = m.model_id
), page AS (
  SELECT * FROM models ORDER BY start_at, model_id LIMIT $4 OFFSET $5
)
SELECT page.*, counted.total FROM (SELECT count(*) AS total FROM models) counted LEFT JOIN page ON true
 ORDER BY page.start_at, page.model_id;

-- name: batch_model_set
-- Set the bounds (start $4, end $5; null stays as it is) of model $3 in monitoring batch $2 of deployment $1.
INSERT INTO monitoring_batch_models AS o (deployment_id, batch_id, model_id, start_at, end_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (deployment_id, batch_id, model_id) DO UPDATE
   SET start_at = coalesce(EXCLUDED.start_at, o.start_at), end_at = coalesce(EXCLUDED.end_at, o.end_at);

-- name: deletion_next
-- Take the next number for a deletion of deployment $1, which raises its version.
UPDATE deployments SET last_deletion = last_deletion + 1, version = version + 1 WHERE id = $1
RETURNING last_deletion;

-- name: deletion_of_batch
-- Number ($2) the deletion of monitoring batch $3 of deployment $1.
INSERT INTO deletions (deployment_id, number, kind, batch_id) VALUES ($1, $2, 'batch', $3);

-- name: outbox_add
-- Leave an event (key $2, value $3) for the task that $1 modulo the number of partitions names.
INSERT INTO outbox (home_hash, key, value) VALUES ($1, $2, $3);

-- ========================================================================================= data sets (data_sets.py)

-- name: data_set_add
-- Make data set $1 of organisation $2 by name $3 at $4; one that is there is named $5, unless that is null. No row where it
-- was deleted, or is of another organisation.
INSERT INTO data_sets AS d (id, organisation, name, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET name = coalesce($5, d.name) WHERE d.deleted_at IS NULL AND d.organisation = $2
RETURNING id;

-- name: data_set_add_version
-- Note version $2 of data set $1: format $3, rows $4, columns $5, bytes $6, made at $7 by $8.
INSERT INTO data_set_versions (data_set_id, id, format, rows, columns, size_bytes, created_at, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: data_set_find
-- Data set $2 of organisation $1 in version $3, or in its newest.
SELECT v.*, d.name
  FROM data_sets d JOIN data_set_versions v ON v.data_set_id = d.id
 WHERE d.organisation = $1 AND d.id = $2 AND d.deleted_at IS NULL AND ($3::text IS NULL OR v.id = $3)
 ORDER BY v.created_at DESC, v.id DESC
 LIMIT 1;

-- name: data_set_list
-- Data sets of organisation $1 in their newest versions, newest first, $3 of them from position $2.
SELECT v.*, d.name
  FROM data_sets d
  JOIN LATERAL (SELECT * FROM data_set_versions v WHERE v.data_set_id = d.id
                 ORDER BY v.created_at DESC, v.id DESC LIMIT 1) v ON true
 WHERE d.organisation = $1 AND d.deleted_at IS NULL
 ORDER BY v.created_at DESC, d.id OFFSET $2 LIMIT $3;

-- name: data_set_count
-- How many data sets organisation $1 has.
SELECT count(*) FROM data_sets WHERE organisation = $1 AND deleted_at IS NULL;

-- name: data_set_hold
-- Keep everybody else from deleting data set $1, or from beginning to read it; no row where it is gone.
SELECT id FROM data_sets WHERE id = $1 AND deleted_at IS NULL FOR UPDATE;

-- name: data_set_is_read
-- Whether a task reads data set $1 that has not ended, and whose process has not fallen silent.
SELECT EXISTS (SELECT 1 FROM data_set_readers r JOIN status_tasks t ON t.id = r.task_id
                WHERE r.data_set_id = $1 AND t.ended_at IS NULL
                  AND (t.held_until IS NULL OR t.held_until > clock_timestamp()));

-- name: data_set_delete
-- Delete data set $1; the IDs of its versions, which are gone.
WITH gone AS (UPDATE data_sets SET deleted_at = clock_timestamp() WHERE id = $1 AND deleted_at IS NULL)
DELETE FROM data_set_versions WHERE data_set_id = $1 RETURNING id;

-- name: data_set_note_reader
-- Data set $1 is read by task $2.
INSERT INTO data_set_readers (data_set_id, task_id) VALUES ($1, $2);

-- name: data_set_versions_known
-- Which of the versions ($1 data set ids, $2 version ids) there are.
SELECT v.data_set_id, v.id
  FROM data_set_versions v JOIN unnest($1::text[], $2::text[]) AS asked (data_set_id, id) USING (data_set_id, id);

-- ============================================================================================== statistics

-- name: statistics_traffic
-- Predictions, their instants, outcomes, and how many of them are in cells whose windows have all closed, of deployment $1 from $3 to before $4, per $2 (all|month|day|hour|batch).
WITH cells AS (
  SELECT CASE $2 WHEN 'batch' THEN c.batch_id
                 WHEN 'month' THEN to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM')
                 WHEN 'day' THEN to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD')
                 WHEN 'hour' THEN to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:00"Z"')
                 ELSE '' END AS bucket, c.predictions, c.first_at, c.last_at, c.last_due, c.outcomes,
         coalesce('epoch'::timestamptz + k.watermark * interval '1 microsecond' >= c.last_due, c.last_due IS NULL)
           AS closed
    FROM prediction_cells c
    LEFT JOIN clocks k USING (task, deployment_id)
   WHERE c.deployment_id = $1 AND c.segment = ''
     AND ($3::timestamptz IS NULL OR c.hour >= $3) AND ($4::timestamptz IS NULL OR c.hour < $4)
     AND NOT EXISTS (SELECT 1 FROM monitoring_batches b
                      WHERE b.deployment_id = c.deployment_id AND b.id = c.batch_id AND b.deleted_at IS NOT NULL)
), outcomes AS (
  SELECT bucket, array_agg(records ORDER BY position) AS outcomes
    FROM (SELECT bucket, o.position, sum(o.records)::bigint AS records
            FROM cells, unnest(cells.outcomes) WITH ORDINALITY AS o (records, position)
           GROUP BY bucket, o.position) summed
   GROUP BY bucket
)
SELECT bucket, predictions, first_at, last_at, closed, final_at, coalesce(outcomes, '{}') AS outcomes
  FROM (SELECT bucket, sum(predictions)::bigint AS predictions, min(first_at) AS first_at, max(last_at) AS last_at,
               coalesce(sum(predictions) FILTER (WHERE cells.closed), 0)::bigint AS closed, max(last_due) AS final_at
          FROM cells GROUP BY bucket) totals
  LEFT JOIN outcomes USING (bucket)
 ORDER BY bucket;

-- name: statistics_accuracy
-- Sums of the matched pairs of deployment $1 from $3 to before $4, per $2 (all|month|day|hour|batch), with confusion.
WITH cells AS (
  SELECT CASE $2 WHEN 'batch' THEN c.batch_id
                 WHEN 'month' THEN to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM')
                 WHEN 'day' THEN to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD')
                 WHEN 'hour' THEN to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:00"Z"')
                 ELSE '' END AS bucket, c.*
    FROM accuracy_cells c
   WHERE c.deployment_id = $1 AND c.segment = ''
     AND ($3::timestamptz IS NULL OR c.hour >= $3) AND ($4::timestamptz IS NULL OR c.hour < $4)
     AND NOT EXISTS (SELECT 1 FROM monitoring_batches b
                      WHERE b.deployment_id = c.deployment_id AND b.id = c.batch_id AND b.deleted_at IS NOT NULL)
), confusion AS (
  SELECT bucket, array_agg(pair ORDER BY pair) AS pairs, array_agg(records ORDER BY pair) AS counts
    FROM (SELECT bucket, p.pair, sum(p.records)::bigint AS records
            FROM cells, unnest(cells.confusion_pairs, cells.confusion_counts) AS p (pair, records)
           GROUP BY bucket, p.pair) summed
   WHERE records <> 0
   GROUP BY bucket
)
SELECT totals.*, coalesce(pairs, '{}') AS pairs, coalesce(counts, '{}') AS counts
  FROM (SELECT bucket, sum(matched)::bigint AS matched, sum(error_sum) AS error,
               sum(absolute_error_sum) AS absolute_error, sum(squared_error_sum) AS squared_error,
               sum(actual_sum) AS actual, sum(actual_square_sum) AS actual_square,
               sum(log_loss_rows)::bigint AS log_loss_rows, sum(log_loss_sum) AS log_loss
          FROM cells GROUP BY bucket) totals
  LEFT JOIN confusion USING (bucket)
 ORDER BY bucket;

-- name: feature_counts
-- Rows per feature slot of each cell of model $2 of deployment $1 from $4 to before $5, in monitoring batch $6 or all, with
-- its bucket per $3 (all|month|day|hour|batch). Summed by the reader: to take the arrays apart here takes much longer.
SELECT CASE $3 WHEN 'batch' THEN c.batch_id
               WHEN 'month' THEN to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM')
               WHEN 'day' THEN to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD')
               WHEN 'hour' THEN to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:00"Z"')
               ELSE '' END AS bucket, c.feature_counts AS counts
  FROM prediction_cells c
 WHERE c.deployment_id = $1 AND c.model_id = $2 AND c.segment = ''
   AND ($4::timestamptz IS NULL OR c.hour >= $4) AND ($5::timestamptz IS NULL OR c.hour < $5)
   AND ($6::text IS NULL OR c.batch_id = $6)
   AND NOT EXISTS (SELECT 1 FROM monitoring_batches b
                    WHERE b.deployment_id = c.deployment_id AND b.id = c.batch_id AND b.deleted_at IS NOT NULL);

-- name: received_totals
-- What deployment $1 has received, its undeleted monitoring batches, and the version of every task.
SELECT coalesce(sum(c.predictions_received), 0)::bigint AS predictions,
       coalesce(sum(c.actuals_received), 0)::bigint AS actuals,
       (SELECT count(*) FROM monitoring_batches WHERE deployment_id = $1 AND deleted_at IS NULL) AS batches,
       (SELECT array_agg(task ORDER BY task) FROM ledger) AS tasks,
       (SELECT array_agg(version ORDER BY task) FROM ledger) AS versions
  FROM clocks c
 WHERE c.deployment_id = $1;

-- ================================================================================================ ledger (ledger.py)

-- name: ping
-- Answers when the database does.
SELECT 1;

-- name: ledger_claim
-- Make the one identity row of this database for consumer group $1 with $2 partitions, if there is none yet.
INSERT INTO ledger_identity (group_id, partitions) VALUES ($1, $2) ON CONFLICT (only_row) DO NOTHING;

-- name: ledger_identity
-- Whose ledger this is.
SELECT incarnation::text, group_id, partitions, topic_ids FROM ledger_identity;

-- name: ledger_note_topics
-- Remember the topic IDs ($1 jsonb) that the offsets of this ledger belong to, if none are remembered.
UPDATE ledger_identity SET topic_ids = $1 WHERE topic_ids = '{}' RETURNING true;

-- name: ledger_take_over
-- Raise the epoch of task $1 for instance $2, process $3.
INSERT INTO ledger AS l (task, epoch, owner_instance, owner_process) VALUES ($1, 1, $2, $3)
ON CONFLICT (task) DO UPDATE
   SET epoch = l.epoch + 1, owner_instance = $2, owner_process = $3, updated_at = now();

-- name: ledger_read
-- The ledger row of task $1 with its slot and the incarnation of the ledger.
SELECT l.task, l.epoch, l.version, l.seq, l.offsets, l.origins, l.owner_instance, l.owner_process, l.runs,
       l.paused_by, coalesce(s.payload, ''::bytea) AS slot, coalesce(s.version, 0) AS slot_version,
       (SELECT incarnation::text FROM ledger_identity) AS incarnation
  FROM ledger l LEFT JOIN outbox_slots s USING (task)
 WHERE l.task = $1;

-- name: ledger_position
-- Epoch and version of task $1, to learn what became of a commit in doubt.
SELECT epoch, version FROM ledger WHERE task = $1;

-- name: ledger_resume
-- Let task $1 (null: every task) go on after a flood; what had paused each.
UPDATE ledger l SET runs = '{}', paused_by = ''
  FROM (SELECT task, runs, paused_by FROM ledger
         WHERE paused_by <> '' AND ($1::integer IS NULL OR task = $1) ORDER BY task FOR UPDATE) AS paused
 WHERE l.task = paused.task
RETURNING paused.task, paused.runs, paused.paused_by;

-- name: ledger_advance
-- The fence: advance task $1 from version $3 under epoch $2 to seq $4, offsets $5 and origins $6; to runs $7, paused by $8, unless
-- those are null. Overwrite its outbox slot with $9, what the new version publishes; then take shared locks of ($10 spaces,
-- $11 buckets), in the order given, until the transaction ends. No row where the fence holds.
WITH advanced AS (
  UPDATE ledger
     SET version = version + 1, seq = $4, offsets = $5, origins = $6, runs = coalesce($7, runs),
         paused_by = coalesce($8, paused_by), updated_at = now()
   WHERE task = $1 AND epoch = $2 AND version = $3
  RETURNING version
), slot AS (
  INSERT INTO outbox_slots (task, version, payload) SELECT $1, version, $9 FROM advanced
  ON CONFLICT (task) DO UPDATE SET version = excluded.version, payload = excluded.payload
)
SELECT version,
       (SELECT count(pg_advisory_xact_lock_shared(space, bucket))
          FROM (SELECT space, bucket
                  FROM unnest($10::int4[], $11::int4[]) WITH ORDINALITY AS k (space, bucket, position)
                 ORDER BY position) AS sorted) AS locks
  FROM advanced;

-- name: ledger_put
-- Write absolute prediction cells ($2 to $12), accuracy cells ($13 to $28) and clock rows ($29 to $43) of task $1, one per position
-- of the arrays. Arrays of cells come as their texts; instants in them are microseconds and days since 1970, sums are quanta of
-- 1e-18. Returns the versions of the undeleted deployments among $44 ids, and of the monitoring batches ($45 deployment ids, $46
-- batch ids).
WITH traffic AS (
  INSERT INTO prediction_cells AS c
         (task, deployment_id, model_id, batch_id, hour, segment, predictions, first_at, last_at, last_due, outcomes,
          feature_counts)
  SELECT $1, deployment_id, model_id, batch_id, 'epoch'::timestamptz + hour * interval '1 microsecond', segment, predictions,
         'epoch'::timestamptz + first_at * interval '1 microsecond', 'epoch'::timestamptz + last_at * interval '1 microsecond',
         'epoch'::timestamptz + last_due * interval '1 microsecond', outcomes::bigint[], feature_counts::bigint[]
    FROM unnest($2::text::text[], $3::text::text[], $4::text::text[], $5::text::bigint[], $6::text::text[],
                $7::text::bigint[], $8::text::bigint[], $9::text::bigint[], $10::text::bigint[], $11::text::text[],
                $12::text::text[])
      AS n (deployment_id, model_id, batch_id, hour, segment, predictions, first_at, last_at, last_due, outcomes,
            feature_counts)
  ON CONFLICT (task, deployment_id, model_id, batch_id, hour, segment) DO UPDATE
     SET predictions = excluded.predictions, first_at = excluded.first_at, last_at = excluded.last_at,
         last_due = excluded.last_due, outcomes = excluded.outcomes, feature_counts = excluded.feature_counts
), accuracy AS (
  INSERT INTO accuracy_cells AS c
         (task, deployment_id, model_id, batch_id, hour, segment, label_day, matched, error_sum, absolute_error_sum,
          squared_error_sum, actual_sum, actual_square_sum, log_loss_rows, log_loss_sum, confusion_pairs, confusion_counts)
  SELECT $1, deployment_id, model_id, batch_id, 'epoch'::timestamptz + hour * interval '1 microsecond', segment,
         date '1970-01-01' + label_day, matched, error_sum * 1e-18, absolute_error_sum * 1e-18, squared_error_sum * 1e-18,
         actual_sum * 1e-18, actual_square_sum * 1e-18, log_loss_rows, log_loss_sum * 1e-18, confusion_pairs::integer[],
         confusion_counts::bigint[]
    FROM unnest($13::text::text[], $14::text::text[], $15::text::text[], $16::text::bigint[], $17::text::text[],
                $18::text::integer[], $19::text::bigint[], $20::text::numeric[], $21::text::numeric[], $22::text::numeric[],
                $23::text::numeric[], $24::text::numeric[], $25::text::bigint[], $26::text::numeric[], $27::text::text[],
                $28::text::text[])
      AS n (deployment_id, model_id, batch_id, hour, segment, label_day, matched, error_sum, absolute_error_sum,
            squared_error_sum, actual_sum, actual_square_sum, log_loss_rows, log_loss_sum, confusion_pairs, confusion_counts)
  ON CONFLICT (task, deployment_id, model_id, batch_id, hour, segment, label_day) DO UPDATE
     SET matched = excluded.matched, error_sum = excluded.error_sum, absolute_error_sum = excluded.absolute_error_sum,
         squared_error_sum = excluded.squared_error_sum, actual_sum = excluded.actual_sum,
         actual_square_sum = excluded.actual_square_sum, log_loss_rows = excluded.log_loss_rows,
         log_loss_sum = excluded.log_loss_sum, confusion_pairs = excluded.confusion_pairs,
         confusion_counts = excluded.confusion_counts
), paced AS (
  INSERT INTO clocks AS c
         (task, deployment_id, predictions_clock, predictions_stood_at, predictions_silent_since, actuals_clock,
          actuals_stood_at, actuals_silent_since, watermark, has_strays, rolled_until, dropped_until,
          predictions_received, actuals_received, dispositions, deletions_applied)
  SELECT $1, * FROM unnest($29::text[], $30::bigint[], $31::timestamptz[], $32::timestamptz[], $33::bigint[], $34::timestamptz[],
                           $35::timestamptz[], $36::bigint[], $37::boolean[], $38::bigint[], $39::bigint[], $40::bigint[],
                           $41::bigint[], $42::jsonb[], $43::bigint[])
  ON CONFLICT (task, deployment_id) DO UPDATE
     SET predictions_clock = excluded.predictions_clock, predictions_stood_at = excluded.predictions_stood_at,
         predictions_silent_since = excluded.predictions_silent_since, actuals_clock = excluded.actuals_clock,
         actuals_stood_at = excluded.actuals_stood_at, actuals_silent_since = excluded.actuals_silent_since,
         watermark = excluded.watermark, has_strays = excluded.has_strays, rolled_until = excluded.rolled_until,
         dropped_until = excluded.dropped_until,
         predictions_received = excluded.predictions_received, actuals_received = excluded.actuals_received,
         dispositions = excluded.dispositions, deletions_applied = excluded.deletions_applied
)
SELECT (SELECT coalesce(jsonb_object_agg(id, version), '{}')
          FROM deployments WHERE id = ANY ($44::text[]) AND deleted_at IS NULL) AS deployments,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(b.deployment_id, b.id, b.version)), '[]')
          FROM monitoring_batches b
          JOIN unnest($45::text[], $46::text[]) AS wanted (deployment_id, id) USING (deployment_id, id)) AS batches;

-- name: ledger_prediction_cells
-- Cells of task $1 with these keys.
SELECT deployment_id, model_id, batch_id, hour, segment, predictions, first_at, last_at, last_due, outcomes,
       feature_counts
  FROM prediction_cells
  JOIN unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[])
    AS wanted (deployment_id, model_id, batch_id, hour, segment) USING (deployment_id, model_id, batch_id, hour, segment)
 WHERE task = $1;

-- name: ledger_accuracy_cells
-- Cells of task $1 with these keys.
SELECT deployment_id, model_id, batch_id, hour, segment, label_day, matched, error_sum, absolute_error_sum,
       squared_error_sum, actual_sum, actual_square_sum, log_loss_rows, log_loss_sum, confusion_pairs, confusion_counts
  FROM accuracy_cells
  JOIN unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::date[])
    AS wanted (deployment_id, model_id, batch_id, hour, segment, label_day)
 USING (deployment_id, model_id, batch_id, hour, segment, label_day)
 WHERE task = $1;

-- name: ledger_drop_prediction_cells
-- Delete the prediction cells of task $1 that belong to deleted batches ($2 deployment ids, $3 batch ids).
DELETE FROM prediction_cells c USING unnest($2::text[], $3::text[]) AS gone (deployment_id, batch_id)
 WHERE c.task = $1 AND c.deployment_id = gone.deployment_id AND c.batch_id = gone.batch_id;

-- name: ledger_drop_accuracy_cells
-- Delete the accuracy cells of task $1 that belong to deleted batches ($2 deployment ids, $3 batch ids).
DELETE FROM accuracy_cells c USING unnest($2::text[], $3::text[]) AS gone (deployment_id, batch_id)
 WHERE c.task = $1 AND c.deployment_id = gone.deployment_id AND c.batch_id = gone.batch_id;

-- name: ledger_first_hour
-- First hour from $3 to before $4 of which task $1 has a cell of deployment $2.
SELECT min(hour)
  FROM (SELECT hour FROM prediction_cells WHERE task = $1 AND deployment_id = $2 AND hour >= $3 AND hour < $4
        UNION ALL
        SELECT hour FROM accuracy_cells WHERE task = $1 AND deployment_id = $2 AND hour >= $3 AND hour < $4) cells;

-- name: ledger_prediction_cells_between
-- Cells of task $1 and deployment $2 of hours from $3 to before $4.
SELECT deployment_id, model_id, batch_id, hour, segment, predictions, first_at, last_at, last_due, outcomes,
       feature_counts
  FROM prediction_cells WHERE task = $1 AND deployment_id = $2 AND hour >= $3 AND hour < $4;

-- name: ledger_accuracy_cells_between
-- Cells of task $1 and deployment $2 of hours from $3 to before $4.
SELECT deployment_id, model_id, batch_id, hour, segment, label_day, matched, error_sum, absolute_error_sum,
       squared_error_sum, actual_sum, actual_square_sum, log_loss_rows, log_loss_sum, confusion_pairs, confusion_counts
  FROM accuracy_cells WHERE task = $1 AND deployment_id = $2 AND hour >= $3 AND hour < $4;

-- name: ledger_drop_prediction_hours
-- Delete the cells of task $1 of hours from $3 to before $4 of deployments $2, by position.
DELETE FROM prediction_cells c USING unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS gone (id, first, until)
 WHERE c.task = $1 AND c.deployment_id = gone.id AND c.hour >= gone.first AND c.hour < gone.until;

-- name: ledger_drop_accuracy_hours
-- Delete the cells of task $1 of hours from $3 to before $4 of deployments $2, by position.
DELETE FROM accuracy_cells c USING unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS gone (id, first, until)
 WHERE c.task = $1 AND c.deployment_id = gone.id AND c.hour >= gone.first AND c.hour < gone.until;

-- name: ledger_clocks
-- Clock rows of task $1.
SELECT deployment_id, predictions_clock, predictions_stood_at, predictions_silent_since, actuals_clock, actuals_stood_at,
       actuals_silent_since, watermark, has_strays, rolled_until, dropped_until, predictions_received, actuals_received,
       dispositions, deletions_applied
  FROM clocks WHERE task = $1;

-- name: ledger_held_at
-- The least clock of the tasks other than $1, of deployments that have strays on any task.
SELECT deployment_id, min(least(predictions_clock, actuals_clock)) AS at
  FROM clocks
 WHERE task <> $1 AND predictions_clock IS NOT NULL AND actuals_clock IS NOT NULL
   AND deployment_id IN (SELECT deployment_id FROM clocks WHERE has_strays)
 GROUP BY deployment_id;

-- name: ledger_now
-- The database's wall time.
SELECT clock_timestamp();

-- name: ledger_submissions
-- Records of task $1 by ($2 submission ids, $3 status words).
SELECT submission_id, status, records FROM submission_counts
  JOIN unnest($2::text[], $3::text[]) AS wanted (submission_id, status) USING (submission_id, status)
 WHERE task = $1;

-- name: ledger_put_submissions
-- Write absolute submission counts of task $1.
INSERT INTO submission_counts (task, submission_id, status, records)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[])
ON CONFLICT (submission_id, task, status) DO UPDATE SET records = excluded.records;

-- name: ledger_outbox
-- The oldest $3 events whose home is task $1 of $2.
SELECT id, key, value FROM outbox WHERE home_hash % $2::integer = $1::integer ORDER BY id LIMIT $3;

-- name: ledger_drop_outbox
-- Delete the events $1 that the slot holds from now on.
DELETE FROM outbox WHERE id = ANY ($1::bigint[]);

-- name: ledger_deletions
-- Deletions that task $1 has not applied: by deployment their greatest number, the batches, and whether all of it is gone.
SELECT d.deployment_id, max(d.number) AS number, array_agg(d.batch_id) FILTER (WHERE d.kind = 'batch') AS batches,
       bool_or(d.kind = 'deployment') AS whole
  FROM deletions d LEFT JOIN clocks c ON c.task = $1 AND c.deployment_id = d.deployment_id
 WHERE d.number > coalesce(c.deletions_applied, 0)
 GROUP BY d.deployment_id;

-- ======================================================================================= verification (cells.py)

-- name: verify_prediction_cells
-- Every prediction cell of task $1, of deployment $2 or all.
SELECT deployment_id, model_id, batch_id, hour, segment, predictions, first_at, last_at, last_due, outcomes,
       feature_counts
  FROM prediction_cells WHERE task = $1 AND ($2::text IS NULL OR deployment_id = $2);

-- name: verify_accuracy_cells
-- Every accuracy cell of task $1, of deployment $2 or all.
SELECT deployment_id, model_id, batch_id, hour, segment, label_day, matched, error_sum, absolute_error_sum,
       squared_error_sum, actual_sum, actual_square_sum, log_loss_rows, log_loss_sum, confusion_pairs, confusion_counts
  FROM accuracy_cells WHERE task = $1 AND ($2::text IS NULL OR deployment_id = $2);

-- name: verify_deployments
-- Every deployment that is not deleted, and since when the features of each of its models have bins.
SELECT d.id, b.model_id, max(b.created_at) AS layout_since
  FROM deployments d LEFT JOIN baselines b ON b.deployment_id = d.id AND b.kind <> 'period'
 WHERE d.deleted_at IS NULL
 GROUP BY d.id, b.model_id;

-- name: verify_deleted_batches
-- Every deleted monitoring batch.
SELECT deployment_id, id FROM monitoring_batches WHERE deleted_at IS NOT NULL;
