"""Create deployments, monitoring batches, the ledger and the statistics cells."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

DEPLOYMENTS = """
CREATE TABLE deployments (
  id text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9._-]{1,128}$'),
  label text NOT NULL,
  description text,
  origin text NOT NULL CHECK (origin IN ('registered', 'events')),
  target_name text,
  target_type text CHECK (target_type IN ('Regression', 'Binary', 'Multiclass')),
  class_names text[] NOT NULL DEFAULT '{}',
  classes_learned boolean NOT NULL DEFAULT false,
  positive_class text,
  threshold double precision NOT NULL DEFAULT 0.5,
  current_model_id text,
  association_columns text[] NOT NULL DEFAULT '{}',
  association_required boolean NOT NULL DEFAULT false,
  features jsonb NOT NULL DEFAULT '[]',
  join_window interval NOT NULL DEFAULT '30 days',
  join_grace interval NOT NULL DEFAULT '60 days',
  allowed_lateness interval NOT NULL DEFAULT '10 minutes',
  early_ttl interval NOT NULL DEFAULT '90 days',
  idle_timeout interval NOT NULL DEFAULT '60 seconds',
  max_future_skew interval NOT NULL DEFAULT '5 minutes',
  late_policy text NOT NULL DEFAULT 'correct' CHECK (late_policy IN ('correct', 'record', 'reject')),
  actual_order text NOT NULL DEFAULT 'event_time' CHECK (actual_order IN ('event_time', 'arrival')),
  batch_enabled boolean NOT NULL DEFAULT false,
  batch_policy text NOT NULL DEFAULT 'none' CHECK (batch_policy IN ('none', 'hourly', 'daily')),
  last_deletion bigint NOT NULL DEFAULT 0,
  version bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz
);
COMMENT ON COLUMN deployments.version IS
  'rises with every change that a worker must see; compared inside each micro-batch transaction';

CREATE TABLE models (
  deployment_id text NOT NULL REFERENCES deployments (id),
  id text NOT NULL CHECK (id ~ '^[A-Za-z0-9._-]{1,128}$'),
  name text NOT NULL,
  threshold double precision,
  reason text,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (deployment_id, id)
);

CREATE TABLE baselines (
  deployment_id text NOT NULL,
  model_id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('training', 'holdout', 'period')),
  version integer NOT NULL,
  method text NOT NULL,
  rows bigint NOT NULL,
  layout jsonb NOT NULL,
  counts bigint[] NOT NULL,
  start_at timestamptz,
  end_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (deployment_id, model_id, kind),
  CHECK ((kind = 'period') = (start_at IS NOT NULL AND end_at IS NOT NULL)),
  FOREIGN KEY (deployment_id, model_id) REFERENCES models (deployment_id, id)
);
COMMENT ON COLUMN baselines.layout IS
  'bins of each feature and the slots they own in every counts array; slots are only ever appended';
COMMENT ON COLUMN baselines.start_at IS
  'of a period of live data its first hour, end_at the hour after its last; null for a file';

CREATE TABLE monitoring_batches (
  deployment_id text NOT NULL REFERENCES deployments (id),
  id text NOT NULL CHECK (id ~ '^[A-Za-z0-9._-]{1,128}$'),
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
  description text,
  external_context_url text,
  origin text NOT NULL CHECK (origin IN ('api', 'job', 'name', 'policy')),
  created_by jsonb NOT NULL DEFAULT '{"id": "000000000000000000000000", "name": "service"}',
  job_id text,
  is_locked boolean NOT NULL DEFAULT false,
  version bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  deleted_at timestamptz,
  PRIMARY KEY (deployment_id, id)
);
CREATE INDEX monitoring_batches_by_name ON monitoring_batches (deployment_id, name, created_at, id)
  WHERE deleted_at IS NULL;

CREATE TABLE deletions (
  deployment_id text NOT NULL REFERENCES deployments (id),
  number bigint NOT NULL,
  kind text NOT NULL CHECK (kind IN ('batch', 'period', 'deployment')),
  batch_id text,
  model_id text,
  start_at timestamptz,
  end_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (deployment_id, number)
);

CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  home_hash integer NOT NULL,
  key bytea NOT NULL,
  value bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN outbox.home_hash IS
  'murmur2 of the key without its sign bit; modulo the partition count it names the task that publishes the event';
"""

LEDGER = """
CREATE TABLE ledger_identity (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  incarnation uuid NOT NULL DEFAULT gen_random_uuid(),
  group_id text NOT NULL,
  partitions integer NOT NULL,
  topic_ids jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE ledger (
  task integer PRIMARY KEY,
  epoch bigint NOT NULL DEFAULT 0,
  version bigint NOT NULL DEFAULT 0,
  seq bigint NOT NULL DEFAULT 0,
  offsets jsonb NOT NULL DEFAULT '{}',
  origins jsonb NOT NULL DEFAULT '{}',
  runs jsonb NOT NULL DEFAULT '{}',
  paused_by text NOT NULL DEFAULT '',
  owner_instance text,
  owner_process uuid,
  updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON COLUMN ledger.runs IS 'undecodable records in a row up to now, by topic role';
COMMENT ON COLUMN ledger.paused_by IS 'topic role whose run has paused the task until a person resumes it, else empty';

CREATE TABLE outbox_slots (
  task integer PRIMARY KEY REFERENCES ledger (task),
  version bigint NOT NULL,
  payload bytea NOT NULL
) WITH (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200,
  toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 2000,
  toast.autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE outbox_slots ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE clocks (
  task integer NOT NULL,
  deployment_id text NOT NULL,
  predictions_clock bigint,
  predictions_stood_at timestamptz,
  predictions_silent_since timestamptz,
  actuals_clock bigint,
  actuals_stood_at timestamptz,
  actuals_silent_since timestamptz,
  watermark bigint,
  has_strays boolean NOT NULL DEFAULT false,
  rolled_until bigint NOT NULL DEFAULT 0,
  dropped_until bigint NOT NULL DEFAULT 0,
  predictions_received bigint NOT NULL DEFAULT 0,
  actuals_received bigint NOT NULL DEFAULT 0,
  dispositions jsonb NOT NULL DEFAULT '{}',
  deletions_applied bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (task, deployment_id)
) WITH (fillfactor = 70);
CREATE INDEX clocks_with_strays ON clocks (deployment_id) WHERE has_strays;
COMMENT ON TABLE clocks IS
  'event times in microseconds since 1970; dispositions count the records that no row of the state store stands for';

CREATE TABLE submissions (
  id text PRIMARY KEY,
  deployment_id text NOT NULL REFERENCES deployments (id),
  records bigint,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN submissions.records IS 'null until every record was acknowledged by the broker';

CREATE TABLE submission_counts (
  task integer NOT NULL,
  submission_id text NOT NULL,
  status text NOT NULL,
  records bigint NOT NULL,
  PRIMARY KEY (submission_id, task, status)
);
"""

CELLS = """
CREATE TABLE prediction_cells (
  task integer NOT NULL,
  deployment_id text NOT NULL,
  model_id text NOT NULL,
  batch_id text NOT NULL,
  hour timestamptz NOT NULL,
  segment text NOT NULL,
  predictions bigint NOT NULL,
  first_at timestamptz,
  last_at timestamptz,
  last_due timestamptz,
  outcomes bigint[] NOT NULL,
  feature_counts bigint[] NOT NULL,
  PRIMARY KEY (task, deployment_id, model_id, batch_id, hour, segment)
) WITH (fillfactor = 80);
CREATE INDEX prediction_cells_by_batch ON prediction_cells (deployment_id, batch_id);
CREATE INDEX prediction_cells_by_hour ON prediction_cells (deployment_id, hour);
COMMENT ON COLUMN prediction_cells.outcomes IS 'records per outcome, position = outcome code + 1';
COMMENT ON COLUMN prediction_cells.last_due IS
  'when the last window of its rows closes, on the watermark of its task; null where no row waits for an actual';
COMMENT ON COLUMN prediction_cells.feature_counts IS 'rows per bin, positions as in baselines.layout';

CREATE TABLE accuracy_cells (
  task integer NOT NULL,
  deployment_id text NOT NULL,
  model_id text NOT NULL,
  batch_id text NOT NULL,
  hour timestamptz NOT NULL,
  segment text NOT NULL,
  label_day date NOT NULL,
  matched bigint NOT NULL,
  error_sum numeric NOT NULL,
  absolute_error_sum numeric NOT NULL,
  squared_error_sum numeric NOT NULL,
  actual_sum numeric NOT NULL,
  actual_square_sum numeric NOT NULL,
  log_loss_rows bigint NOT NULL,
  log_loss_sum numeric NOT NULL,
  confusion_pairs integer[] NOT NULL,
  confusion_counts bigint[] NOT NULL,
  PRIMARY KEY (task, deployment_id, model_id, batch_id, hour, segment, label_day)
) WITH (fillfactor = 80);
CREATE INDEX accuracy_cells_by_batch ON accuracy_cells (deployment_id, batch_id);
CREATE INDEX accuracy_cells_by_hour ON accuracy_cells (deployment_id, hour);
COMMENT ON COLUMN accuracy_cells.label_day IS 'UTC day on which the label was received';
COMMENT ON COLUMN accuracy_cells.confusion_pairs IS
  'actual class index * 1024 + predicted class index; confusion_counts holds the rows of each pair';
"""


def upgrade() -> None:
    for script in (DEPLOYMENTS, LEDGER, CELLS):
        for statement in script.split(";\n"):
            if statement.strip():
                op.execute(statement)
