"""The node's tables, but for those of the page and its people (`page_tables`)."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()


schema = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, primary_key=True))


#: One row: which storage belongs to this database.
storage = sa.Table("storage", metadata, sa.Column("identity", sa.String(32), primary_key=True))


#: One row: by what the key of the digests of patients is known, and the number of the job down to which results may
#: still hold a digest without a key, which older versions wrote.
patient_key = sa.Table(
    "patient_key",
    metadata,
    sa.Column("mark", sa.String(64), primary_key=True),
    sa.Column("records_left", sa.Integer, nullable=False),
)


#: One row: the identity of this database, by which nodes that share a storage know that they share the database too.
database_id = sa.Table("database_id", metadata, sa.Column("identity", sa.String(32), primary_key=True))


#: The nodes that run on this database, each with the time of its last word by the database's clock.
member = sa.Table(
    "member",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)


instance = sa.Table(
    "instance",
    metadata,
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("path", sa.String(255), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("study_uid", sa.String(64), index=True),
    sa.Column("series_uid", sa.String(64)),
    sa.Column("header", sa.Text),
    sa.Column("problem", sa.Text),
)


UNINDEXED = sa.and_(instance.c.header.is_(None), instance.c.problem.is_(None))
UNREADABLE = instance.c.problem.is_not(None)
#: Indexes of some rows only, and which rows.
PARTIAL = (
    (sa.Index("ix_instance_unindexed", instance.c.received_at), UNINDEXED),
    (sa.Index("ix_instance_unreadable", instance.c.received_at), UNREADABLE),
)
sa.Index("ix_instance_series", instance.c.series_uid)


#: Data sets whose C-STORE command named another SOP Instance UID than their own.
data_set_uid = sa.Table(
    "data_set_uid",
    metadata,
    sa.Column("uid", sa.String(64), primary_key=True),
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
)


#: Studies that an operator declared to be one examination.
joined_study = sa.Table(
    "joined_study",
    metadata,
    sa.Column("study_uid", sa.String(64), primary_key=True),
    sa.Column("with_uid", sa.String(64), primary_key=True),
)


quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False, index=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("path", sa.String(255), nullable=False, unique=True),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
)


study = sa.Table(
    "study",
    metadata,
    sa.Column("study_uid", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False, index=True),
    sa.Column("due_at", sa.Float, index=True),
    sa.Column("search_at", sa.Float),
    sa.Column("search", sa.Text, nullable=False, default=""),
    sa.Index("ix_study_state", "state", "since"),
)


#: Digests of the Patient IDs and Accession Numbers of a study, by which a person finds it.
study_key = sa.Table(
    "study_key",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("study_uid", sa.String(64), primary_key=True, index=True),
)


assignment = sa.Table(
    "assignment",
    metadata,
    sa.Column("series_uid", sa.String(64), primary_key=True),
    sa.Column("phase", sa.String(16), nullable=False),
)


job = sa.Table(
    "job",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_uid", sa.String(64), nullable=False, index=True),
    # of the study of its inspiration, where that is another one
    sa.Column("other_study_uid", sa.String(64), index=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False, unique=True),
    sa.Column("pair", sa.Text, nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("crashes", sa.Integer, nullable=False, default=0),
    sa.Column("stage", sa.String(64), nullable=False, default=""),
    sa.Column("fraction", sa.Float, nullable=False, default=0.0),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("owner", sa.String(32), nullable=False, default=""),  # the node that gave it to a worker
    sa.Column("worker", sa.String(255), nullable=False, default=""),  # what works on this attempt
    sa.UniqueConstraint("study_uid", "revision"),
    sa.Index("ix_job_due", "state", "created", "id"),
    sqlite_autoincrement=True,
)


result = sa.Table(
    "result",
    metadata,
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("job_id", sa.ForeignKey("job.id"), nullable=False, index=True),
    sa.Column("path", sa.String(255), nullable=False),
    sa.Column("sha256", sa.String(64)),
)


delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("sop_instance_uid", sa.ForeignKey("result.sop_instance_uid"), nullable=False),
    sa.Column("destination", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("status", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("transaction_uid", sa.String(64), index=True),
    sa.Column("owner", sa.String(32), nullable=False, default=""),  # the node that is sending it
    sa.UniqueConstraint("sop_instance_uid", "destination"),
    sa.Index("ix_delivery_due", "destination", "state", "due_at"),
    sa.Index("ix_delivery_open", "state", "id"),
)


commitment = sa.Table(
    "commitment",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("transaction_uid", sa.String(64), nullable=False, unique=True),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("called_ae", sa.String(16), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("asked", sa.Text, nullable=False),
    sa.Column("objects", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Index("ix_commitment_due", "state", "due_at"),
)


performed_step = sa.Table(
    "performed_step",
    metadata,
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("changed", sa.Float, nullable=False, index=True),
)


performed_study = sa.Table(
    "performed_study",
    metadata,
    sa.Column("study_uid", sa.String(64), primary_key=True),
    sa.Column("step_uid", sa.String(64), primary_key=True),
)


performed_image = sa.Table(
    "performed_image",
    metadata,
    sa.Column("step_uid", sa.String(64), primary_key=True),
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("series_uid", sa.String(64), nullable=False),
)


audit_spool = sa.Table(
    "audit_spool",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("line", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)


audit_transfer = sa.Table(
    "audit_transfer",
    metadata,
    sa.Column("direction", sa.String(8), primary_key=True),
    sa.Column("study_uid", sa.String(64), primary_key=True),
    sa.Column("peer", sa.String(64), primary_key=True),
    sa.Column("sop_class_uid", sa.String(64), primary_key=True),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False),
)


removal = sa.Table(
    "removal",
    metadata,
    sa.Column("path", sa.String(255), primary_key=True),
    sa.Column("study_uid", sa.String(64), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)


outcome = sa.Table(
    "outcome",
    metadata,
    sa.Column("job_id", sa.ForeignKey("job.id"), primary_key=True, autoincrement=False),
    sa.Column("patient", sa.String(64), nullable=False, index=True),
    sa.Column("acquired", sa.String(8), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("measures", sa.Text, nullable=False),
)


#: Numbers that only grow, and that the removal of what they counted does not change.
tally = sa.Table(
    "tally",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("of", sa.String(64), primary_key=True),
    sa.Column("outcome", sa.String(16), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)


#: What happened, in the transaction in which it did: the timeline of a study, and what notifications are made from.
event = sa.Table(
    "event",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("study_uid", sa.String(64), nullable=False, index=True),
    sa.Column("job_id", sa.Integer),
    sa.Column("about", sa.String(255), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("once", sa.String(255), unique=True),
    sqlite_autoincrement=True,
)


#: Up to which event each channel of `[[notify]]` has been looked after.
channel = sa.Table(
    "channel",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("last_event", sa.Integer, nullable=False),
)


#: One event for one channel. Those of one `message` go out together, under that identity, however often it is tried.
notification = sa.Table(
    "notification",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("channel", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("study_uid", sa.String(64), nullable=False),
    sa.Column("job_id", sa.Integer),
    sa.Column("about", sa.String(255), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("message", sa.String(64), index=True),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Index("ix_notification_due", "channel", "state", "due_at"),
)
