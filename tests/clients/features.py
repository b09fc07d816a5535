"""Tries what psycopg can do, each on its own connection, and prints each result on a line.

Where to connect is in libpq's environment variables.
"""

import psycopg

NUMBERS = [1, 2, 3]


def ask_each(target):
    return [target.execute("SELECT %s::int", (number,)).fetchone()[0] for number in NUMBERS]


def parameters(connection):
    connection.prepare_threshold = None
    return ask_each(connection)


def prepared(connection):
    connection.prepare_threshold = 0
    return ask_each(connection)


def prepared_in_a_transaction(connection):
    connection.prepare_threshold = 0
    with connection.transaction():
        return ask_each(connection)


def pipeline(connection):
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (number,)) for number in NUMBERS]
        return [cursor.fetchone()[0] for cursor in cursors]


def fetch(cursor):
    with cursor:
        cursor.itersize = 2
        cursor.execute("SELECT generate_series(1, 3)")
        return [row[0] for row in cursor]


def cursor_in_a_transaction(connection):
    with connection.transaction():
        return fetch(connection.cursor("numbers"))


def cursor_with_hold(connection):
    return fetch(connection.cursor("numbers", withhold=True))


def executemany(connection):
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO numbers VALUES (%s)", [(number,) for number in NUMBERS])
        return cursor.rowcount


def copy(connection):
    with connection.cursor().copy("COPY (SELECT generate_series(1, 3)) TO STDOUT") as rows:
        return [int(row[0]) for row in rows.rows()]


FEATURES = [
    parameters,
    prepared,
    prepared_in_a_transaction,
    pipeline,
    cursor_in_a_transaction,
    cursor_with_hold,
    executemany,
    copy,
]


def outcome(feature, **parameters):
    try:
        with psycopg.connect(autocommit=True, **parameters) as connection:
            return feature(connection)
    except psycopg.Error as error:
        return str(error).splitlines()[0]


for feature in FEATURES:
    print(f"{feature.__name__}: {outcome(feature)}")
# A client that waits for its server gets the negotiation twice from PgBouncer 1.24
# (github.com/pgbouncer/pgbouncer/issues/1459).
for _ in range(20):
    newest = outcome(parameters, max_protocol_version="latest")
    if "duplicate protocol negotiation" not in str(newest):
        break
print(f"newest_protocol: {newest}")
