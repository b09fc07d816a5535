"""PostgreSQL's programs in the workload container, driven through Pebble."""

from __future__ import annotations

import pathlib

from ops import pebble

PROGRAMS = '/usr/lib/postgresql'


class Workload:
    """The container `postgresql` of this unit."""

    def __init__(self, charm_dir: pathlib.Path):
        # ops looks in /charm. In jujusim each unit has a root of its own.
        socket = charm_dir.parents[5] / 'charm/containers/postgresql/pebble.socket'
        self.pebble = pebble.Client(str(socket))

    def is_up(self) -> bool:
        """Return whether Pebble answers."""
        try:
            self.pebble.get_system_info()
        except pebble.ConnectionError:
            return False
        return True

    def program(self, name: str) -> str:
        """Return the path of a program of the newest PostgreSQL in the image."""
        versions = [file.name for file in self.pebble.list_files(PROGRAMS)]
        return f'{PROGRAMS}/{max(versions, key=int)}/bin/{name}'

    def run(self, *command: str, stdin: str = '', password: str = '') -> str:
        """Run a command as the user postgres and return its output."""
        process = self.pebble.exec(
            list(command),
            user='postgres',
            environment={'PGPASSWORD': password, 'PGCONNECT_TIMEOUT': '10'},
            stdin=stdin,
            timeout=60,
        )
        return process.wait_output()[0]

    def psql(self, address: str, sql: str, password: str = '', **variables: str) -> list[str]:
        """Run SQL and return the lines of the answer."""
        options = ['--no-psqlrc', '--quiet', '--tuples-only', '--no-align']
        for name, value in {'ON_ERROR_STOP': '1', **variables}.items():
            options += ['--variable', f'{name}={value}']
        psql = self.program('psql')
        return self.run(psql, *options, address, stdin=sql, password=password).splitlines()
