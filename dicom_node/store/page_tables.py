"""The tables of the page: the people who use it, and what they said of results and patients."""

from __future__ import annotations

import sqlalchemy as sa

from .tables import metadata

#: People who may use the page; passwords as argon2 hashes.
web_user = sa.Table(
    "web_user",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("password", sa.Text, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("created", sa.Float, nullable=False),
)

#: Logins that have not ended, by the SHA-256 of what the browser holds.
web_session = sa.Table(
    "web_session",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("user", sa.ForeignKey("web_user.name"), nullable=False, index=True),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("seen", sa.Float, nullable=False),
)

#: Secrets of programs that use the API, by their SHA-256.
web_token = sa.Table(
    "web_token",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)

#: What people said of results that they looked at.
review = sa.Table(
    "review",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.ForeignKey("job.id"), nullable=False, index=True),
    sa.Column("user", sa.String(64), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

#: DLCO of a study's patient (% predicted), as a person entered or imported it.
dlco = sa.Table(
    "dlco",
    metadata,
    sa.Column("study_uid", sa.String(64), primary_key=True),
    sa.Column("percent", sa.Float, nullable=False),
    sa.Column("cohort", sa.String(64), nullable=False, default=""),
    sa.Column("user", sa.String(64), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
