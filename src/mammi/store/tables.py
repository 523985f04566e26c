"""The results as tables: Parquet for anyone, SQLite with full-text search for looking things up."""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pandas as pd

from mammi.errors import RunError
from mammi.store.files import atomic_path

__all__ = ["read_parquet", "write_index", "write_parquet"]


@contextmanager
def _file_errors() -> Iterator[None]:
    """Turn what a database says of a full or read-only disk into what the system says of it."""
    try:
        yield
    except (duckdb.IOException, sqlite3.OperationalError, pd.errors.DatabaseError) as error:
        raise OSError(str(error).splitlines()[0]) from error


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, all or nothing; the same table gives the same bytes."""
    # One thread keeps the row groups in order; a private connection leaves no global state behind.
    with duckdb.connect(config={"threads": 1}) as connection, atomic_path(path) as aside, _file_errors():
        connection.register("rows", table)
        name = str(aside).replace("'", "''")
        connection.execute(f"COPY rows TO '{name}' (FORMAT parquet, COMPRESSION zstd)")


def read_parquet(path: Path, where: str = "TRUE", values: tuple[object, ...] = ()) -> pd.DataFrame:
    """Read the rows of a Parquet file that meet a condition, in file order.

    Args:
        path: the file.
        where: an SQL condition written by this package, with ``?`` for values.
        values: what the ``?`` stand for.

    Raises:
        RunError: if the file is missing or is not Parquet.
    """
    try:
        with duckdb.connect() as connection:
            # A folder named "a[1]" or "layer=x" is a folder, neither a pattern nor a partition.
            name = re.sub(r"([*?\[])", r"[\1]", str(path))
            query = f"SELECT * FROM read_parquet(?, hive_partitioning=false) WHERE {where}"  # noqa: S608 - conditions are written here, values bound
            table: pd.DataFrame = connection.execute(query, [name, *values]).df()
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{path} cannot be read ({reason}): is the run complete? Run the same command again") from error
    return table


def write_index(path: Path, tables: Mapping[str, pd.DataFrame], concepts: pd.DataFrame) -> None:
    """Write the SQLite index of a run, all or nothing.

    Args:
        path: the file.
        tables: name to table; each is indexed by layer and unit where it has them.
        concepts: columns ``layer``, ``unit``, ``words``: what a unit is found by.
    """
    with atomic_path(path) as aside, _file_errors():
        connection = sqlite3.connect(aside)
        try:
            # Half a file is thrown away and a whole one flushed once, so the database need not see to either.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            for name, table in tables.items():
                table.to_sql(name, connection, index=False)
                if {"layer", "unit"} <= set(table.columns):
                    connection.execute(f"CREATE INDEX {name}_unit ON {name} (layer, unit)")
            # porter: "effusions" finds "effusion"
            connection.execute(
                "CREATE VIRTUAL TABLE search USING fts5(words, layer UNINDEXED, unit UNINDEXED, tokenize='porter ascii')"
            )
            connection.executemany(
                "INSERT INTO search (words, layer, unit) VALUES (?, ?, ?)",
                concepts[["words", "layer", "unit"]].astype(object).itertuples(index=False, name=None),
            )
            connection.commit()
        finally:
            connection.close()
