"""The version of the tables, and the statements that migrate those of older versions."""

from __future__ import annotations

from collections.abc import Mapping

#: Version of the tables.
SCHEMA = 7

#: Statements that migrate tables of each version to the next; missing tables are made anyway.
MIGRATIONS: Mapping[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE delivery ADD COLUMN transaction_uid VARCHAR(64)",
        "CREATE INDEX ix_delivery_transaction_uid ON delivery (transaction_uid)",
    ),
    2: (),  # new tables only, which are made anyway: commitments, performed steps, audit
    3: (
        "ALTER TABLE result ADD COLUMN sha256 VARCHAR(64)",
        "CREATE INDEX ix_delivery_open ON delivery (state, id)",
        "CREATE INDEX ix_job_due ON job (state, created, id)",
        "CREATE INDEX ix_study_received_at ON study (received_at)",
    ),
    4: (
        "CREATE INDEX ix_study_state ON study (state, since)",
        "CREATE INDEX ix_instance_unreadable ON instance (received_at) WHERE problem IS NOT NULL",
        "CREATE INDEX ix_instance_series ON instance (series_uid)",
        "ALTER TABLE job ADD COLUMN other_study_uid VARCHAR(64)",
        "CREATE INDEX ix_job_other_study_uid ON job (other_study_uid)",
    ),  # and new tables
    5: (
        "ALTER TABLE job ADD COLUMN owner VARCHAR(32) NOT NULL DEFAULT ''",
        "ALTER TABLE job ADD COLUMN worker VARCHAR(255) NOT NULL DEFAULT ''",
        "ALTER TABLE delivery ADD COLUMN owner VARCHAR(32) NOT NULL DEFAULT ''",
    ),
    6: ("CREATE INDEX ix_quarantine_sop_instance_uid ON quarantine (sop_instance_uid)",),
}
