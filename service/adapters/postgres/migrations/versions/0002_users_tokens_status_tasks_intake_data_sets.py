"""Create users, tokens, status tasks, intake limits and data sets; give deployments an organisation and settings."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ACCESS = """
CREATE TABLE users (
  id text PRIMARY KEY,
  username text NOT NULL UNIQUE CHECK (length(username) BETWEEN 1 AND 256),
  full_name text NOT NULL,
  organisation text NOT NULL CHECK (organisation ~ '^[A-Za-z0-9._-]{1,128}$'),
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tokens (
  id text PRIMARY KEY,
  user_id text NOT NULL REFERENCES users (id),
  hash bytea NOT NULL UNIQUE,
  scope text NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
  deployments text[],
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz
);
COMMENT ON COLUMN tokens.hash IS 'SHA-256 of the token, which itself is kept nowhere';
COMMENT ON COLUMN tokens.deployments IS 'the only deployments that it opens; null: all of the organisation';
"""

DEPLOYMENTS = """
ALTER TABLE deployments
  ADD COLUMN organisation text NOT NULL DEFAULT 'default',
  ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN health_settings jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN accuracy_aggregation boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN deployments.settings IS 'what was set of the groups that have no columns of their own';
COMMENT ON COLUMN deployments.health_settings IS 'what was set; the rest has its default';
CREATE INDEX deployments_listed ON deployments (organisation, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX clocks_by_deployment ON clocks (deployment_id);
CREATE INDEX monitoring_batches_deleted ON monitoring_batches (deployment_id, id) WHERE deleted_at IS NOT NULL;

CREATE TABLE monitoring_batch_models (
  deployment_id text NOT NULL,
  batch_id text NOT NULL,
  model_id text NOT NULL,
  start_at timestamptz,
  end_at timestamptz,
  PRIMARY KEY (deployment_id, batch_id, model_id),
  FOREIGN KEY (deployment_id, batch_id) REFERENCES monitoring_batches (deployment_id, id)
);
COMMENT ON TABLE monitoring_batch_models IS 'bounds that a person has set in the place of those of the rows';
"""

TASKS = """
CREATE TABLE status_tasks (
  id text PRIMARY KEY,
  user_id text NOT NULL REFERENCES users (id),
  deployment_id text NOT NULL,
  kind text NOT NULL,
  description text NOT NULL,
  status text NOT NULL CHECK (status IN ('INITIALIZED', 'RUNNING', 'COMPLETED', 'ERROR')),
  code integer NOT NULL DEFAULT 0,
  message text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz,
  destroyed_at timestamptz,
  held_until timestamptz
);
CREATE INDEX status_tasks_of_user ON status_tasks (user_id, created_at DESC, id) WHERE ended_at IS NULL;
COMMENT ON COLUMN status_tasks.held_until IS
  'until then the process that works on it is taken for alive; null: no process works on it';

ALTER TABLE submissions
  ADD COLUMN acknowledged bigint NOT NULL DEFAULT 0,
  ADD COLUMN invalid bigint NOT NULL DEFAULT 0,
  ADD COLUMN invalid_told text NOT NULL DEFAULT '';
COMMENT ON COLUMN submissions.acknowledged IS 'records that the broker has acknowledged so far';
COMMENT ON COLUMN submissions.invalid IS 'rows of a data set that were left out';
COMMENT ON COLUMN submissions.invalid_told IS 'of the first few of them, what is wrong';

CREATE TABLE idempotency_keys (
  user_id text NOT NULL REFERENCES users (id),
  key text NOT NULL,
  request_hash bytea NOT NULL,
  task_id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, key)
);

CREATE TABLE intake_hours (
  deployment_id text NOT NULL REFERENCES deployments (id),
  kind text NOT NULL CHECK (kind IN ('predictions', 'actuals')),
  hour timestamptz NOT NULL,
  records bigint NOT NULL,
  PRIMARY KEY (deployment_id, kind, hour)
);
"""

DATA_SETS = """
CREATE TABLE data_sets (
  id text PRIMARY KEY,
  organisation text NOT NULL,
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  deleted_at timestamptz
);

CREATE TABLE data_set_versions (
  data_set_id text NOT NULL REFERENCES data_sets (id),
  id text NOT NULL,
  format text NOT NULL CHECK (format IN ('csv', 'parquet')),
  rows bigint NOT NULL,
  columns text[] NOT NULL,
  size_bytes bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  created_by jsonb NOT NULL,
  PRIMARY KEY (data_set_id, id)
);

CREATE TABLE data_set_readers (
  task_id text PRIMARY KEY REFERENCES status_tasks (id) ON DELETE CASCADE,
  data_set_id text NOT NULL REFERENCES data_sets (id)
);
COMMENT ON TABLE data_set_readers IS 'tasks that read a data set: until they have ended it can not be deleted';
"""


BASELINES = """
ALTER TABLE baselines
  DROP CONSTRAINT baselines_check,
  ADD CHECK ((start_at IS NULL) = (end_at IS NULL)),
  ADD CHECK (kind <> 'period' OR start_at IS NOT NULL),
  ADD COLUMN holdout jsonb;
COMMENT ON COLUMN baselines.holdout IS
  'of kind holdout: bins and counts of its predictions, and its accuracy; null where only features were counted';
"""


def upgrade() -> None:
    for script in (ACCESS, DEPLOYMENTS, TASKS, DATA_SETS, BASELINES):
        for statement in script.split(";\n"):
            if statement.strip():
                op.execute(statement)
