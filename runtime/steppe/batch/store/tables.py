"""The tables of a store of jobs.

A row's state changes often and its body never, so they are in tables of their own: SQLite writes a
whole record when a column of it changes. Partial indexes hold only the rows that wait or run.
"""

from __future__ import annotations

import sqlalchemy as sql

from steppe.database import Schema, about_table

VERSION = 1
WAITING, RUNNING, COMPLETED, FAILED = 0, 1, 2, 3
_NUMBER = sql.BigInteger().with_variant(sql.Integer, "sqlite")
"""SQLite counts up only a column of type INTEGER."""

TABLES = sql.MetaData()
ABOUT = about_table("steppe_batch_about", TABLES)
SERVICES = sql.Table(
    "steppe_batch_services",  # one row at most: the service that runs the jobs
    TABLES,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("owner", sql.String(256), nullable=False),
    sql.Column("until_epoch_s", sql.Float, nullable=False),
)
JOBS = sql.Table(
    "steppe_batch_jobs",
    TABLES,
    sql.Column("number", _NUMBER, primary_key=True),
    sql.Column("id", sql.String(64), nullable=False, unique=True),
    sql.Column("tenant", sql.String(128), nullable=False),
    sql.Column("state", sql.String(16), nullable=False, index=True),
    sql.Column("created_epoch_s", sql.Float, nullable=False),
    sql.Column("deadline_epoch_s", sql.Float),
    sql.Column("document", sql.Text, nullable=False),  # the other fields of a Job, JSON
    sql.Column("lease_owner", sql.String(256)),
    sql.Column("lease_until_epoch_s", sql.Float),
    sql.Index("steppe_batch_jobs_by_tenant", "tenant", "number"),
    sqlite_autoincrement=True,
)
TOTALS = sql.Table(
    "steppe_batch_totals",
    TABLES,
    sql.Column("job", _NUMBER, primary_key=True, autoincrement=False),
    sql.Column("total", sql.BigInteger, nullable=False, default=0),
    sql.Column("completed", sql.BigInteger, nullable=False, default=0),
    sql.Column("failed", sql.BigInteger, nullable=False, default=0),
    sql.Column("prompt_tokens", sql.BigInteger, nullable=False, default=0),
    sql.Column("cached_tokens", sql.BigInteger, nullable=False, default=0),
    sql.Column("output_tokens", sql.BigInteger, nullable=False, default=0),
    sql.Column("energy_j", sql.Float, nullable=False, default=0.0),
    sql.Column("wasted_j", sql.Float, nullable=False, default=0.0),
    sql.Column("first_started_epoch_s", sql.Float),
    sql.Column("last_ended_epoch_s", sql.Float),
)
ROWS = sql.Table(
    "steppe_batch_rows",
    TABLES,
    sql.Column("job", _NUMBER, primary_key=True, autoincrement=False),
    sql.Column("number", _NUMBER, primary_key=True, autoincrement=False),
    sql.Column("custom_id", sql.Text, nullable=False),
    sql.Column("key", sql.String(64), nullable=False),  # empty for a bad row
    sql.Column("run_order", sql.Text, nullable=False),
    sql.Column("state", sql.SmallInteger, nullable=False),
    sql.Column("attempts", sql.Integer, nullable=False, default=0),
    sql.Column("failed_replicas", sql.Text, nullable=False, default="[]"),  # a JSON list
    sql.Column("wasted_j", sql.Float, nullable=False, default=0.0),
    sql.Column("owner", sql.String(256)),
    sqlite_with_rowid=False,
)
IS_WAITING, IS_RUNNING = sql.text(f"state = {WAITING}"), sql.text(f"state = {RUNNING}")
"""Written out, not bound: only so is a partial index used."""
sql.Index(
    "steppe_batch_rows_waiting",
    ROWS.c.job,
    ROWS.c.run_order,
    ROWS.c.number,
    sqlite_where=IS_WAITING,
    postgresql_where=IS_WAITING,
)
sql.Index(
    "steppe_batch_rows_running",
    ROWS.c.job,
    ROWS.c.number,
    sqlite_where=IS_RUNNING,
    postgresql_where=IS_RUNNING,
)
sql.Index("steppe_batch_rows_by_id", ROWS.c.job, ROWS.c.custom_id)
BODIES = sql.Table(
    "steppe_batch_bodies",
    TABLES,
    sql.Column("job", _NUMBER, primary_key=True, autoincrement=False),
    sql.Column("number", _NUMBER, primary_key=True, autoincrement=False),
    sql.Column("endpoint", sql.String(256), nullable=False),
    sql.Column("body", sql.LargeBinary, nullable=False),
)
RESULTS = sql.Table(
    "steppe_batch_results",
    TABLES,
    sql.Column("job", _NUMBER, primary_key=True, autoincrement=False),
    sql.Column("sequence", _NUMBER, primary_key=True, autoincrement=False),
    sql.Column("number", sql.BigInteger, nullable=False),
    sql.Column("custom_id", sql.Text, nullable=False),
    sql.Column("status", sql.Integer, nullable=False),
    sql.Column("request_id", sql.Text, nullable=False),
    sql.Column("body", sql.LargeBinary, nullable=False),
    sql.Column("error_code", sql.Text, nullable=False),
    sql.Column("error", sql.Text, nullable=False),
    sql.Column("prompt_tokens", sql.BigInteger, nullable=False),
    sql.Column("cached_tokens", sql.BigInteger, nullable=False),
    sql.Column("output_tokens", sql.BigInteger, nullable=False),
    sql.Column("energy_j", sql.Float, nullable=False),
    sql.Column("wasted_j", sql.Float, nullable=False),
    sql.Column("energy_source", sql.Text, nullable=False),
    sql.Column("boundary", sql.Text, nullable=False),
    sql.Column("started_epoch_s", sql.Float, nullable=False),
    sql.Column("ended_epoch_s", sql.Float, nullable=False),
    sql.Column("attempts", sql.Integer, nullable=False),
    sql.Column("replica", sql.Text, nullable=False),
    sql.Column("model", sql.Text, nullable=False),
    sql.Index("steppe_batch_results_by_number", "job", "number", unique=True),
)
EXPORTS = sql.Table(
    "steppe_batch_exports",
    TABLES,
    sql.Column("job", _NUMBER, primary_key=True, autoincrement=False),
    sql.Column("name", sql.String(64), primary_key=True),
    sql.Column("position", sql.BigInteger, nullable=False),
    sql.Column("offset", sql.BigInteger, nullable=False),
    sql.Column("rows", sql.BigInteger, nullable=False),
)
FILES = sql.Table(
    "steppe_batch_files",
    TABLES,
    sql.Column("number", _NUMBER, primary_key=True),
    sql.Column("id", sql.String(64), nullable=False, unique=True),
    sql.Column("tenant", sql.String(128), nullable=False),
    sql.Column("purpose", sql.String(32), nullable=False),
    sql.Column("filename", sql.Text, nullable=False),
    sql.Column("size", sql.BigInteger, nullable=False),
    sql.Column("created_epoch_s", sql.Float, nullable=False),
    sql.Column("expires_epoch_s", sql.Float),
    sql.Index("steppe_batch_files_by_tenant", "tenant", "number"),
    sqlite_autoincrement=True,
)
SQLITE_STATISTICS = (
    ("steppe_batch_rows", "steppe_batch_rows", "1000000 1000000 1"),
    ("steppe_batch_rows", "steppe_batch_rows_by_id", "1000000 1000000 1 1"),
    ("steppe_batch_rows", "steppe_batch_rows_waiting", "10000 10000 10 1"),
    ("steppe_batch_rows", "steppe_batch_rows_running", "100 100 1"),
    ("steppe_batch_bodies", "sqlite_autoindex_steppe_batch_bodies_1", "1000000 1000000 1"),
    ("steppe_batch_results", "sqlite_autoindex_steppe_batch_results_1", "1000000 1000000 1"),
    ("steppe_batch_results", "steppe_batch_results_by_number", "1000000 1000000 1"),
)
"""What SQLite plans with, as `ANALYZE` would find it in a large job: how many rows an index has,
and how many of them share its first column, its first two, ...; without it a job's rows count as
few, and finding one of them reads them all. https://www.sqlite.org/fileformat2.html#stat1tab"""
SCHEMA = Schema("batch store", TABLES, ABOUT, VERSION, SQLITE_STATISTICS)
