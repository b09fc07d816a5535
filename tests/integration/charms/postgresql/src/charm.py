#!/usr/bin/env python3
"""PostgreSQL for `make integration`."""

from __future__ import annotations

import secrets

import ops
from ops import pebble

from workload import Workload

PORT = 5432
DATA = '/var/lib/integration'
SOCKETS = '/tmp'
HBA = 'local all postgres peer\nhost all all all scram-sha-256\n'

ADD = r"""
SELECT $$CREATE ROLE {role} LOGIN {attribute} PASSWORD '{password}'$$
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') \gexec
SELECT format('CREATE DATABASE %I', :'name')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
"""
DATABASES = 'SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate'
OWN_ROLES = r"SELECT rolname FROM pg_roles WHERE rolname ~ '^integration_\d+$'"
LOGINS = r"""
SELECT 'role ' || rolname FROM pg_roles
    WHERE rolcanlogin AND rolname <> 'postgres' AND rolname !~ '^integration_\d+$'
"""
SCHEMAS = """
SELECT format('schema %s in %s', nspname, current_database()) FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
"""


def role_of(relation: ops.Relation) -> str:
    """Return the name of a relation's role."""
    return f'integration_{relation.id}'


class PostgreSQL(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.workload = Workload(self.charm_dir)
        for event in (
            self.on.postgresql_pebble_ready,
            self.on.leader_elected,
            self.on.database_relation_changed,
            self.on.update_status,
        ):
            framework.observe(event, self._converge)
        framework.observe(self.on.leftovers_action, self._leftovers)

    def _converge(self, event: ops.EventBase):
        if not self.unit.is_leader():
            self.unit.status = ops.BlockedStatus('only one unit is supported: scale to 1')
            return
        if not self.workload.is_up():
            self.unit.status = ops.WaitingStatus('waiting for the container')
            return
        self._start()
        version = self._sql('SHOW server_version')[0].split()[0]
        for relation in self.model.relations['database']:
            self._serve(relation, version)
        if isinstance(event, ops.UpdateStatusEvent):
            self._drop_former_roles()
        self.unit.set_workload_version(version)
        self.unit.status = ops.ActiveStatus()

    def _sql(self, sql: str, database: str = 'postgres', **variables: str) -> list[str]:
        return self.workload.psql(f'host={SOCKETS} dbname={database}', sql, **variables)

    def _start(self):
        """Create and start the server, unless it runs."""
        workload, client = self.workload, self.workload.pebble
        if client.get_services(['postgresql']):
            return
        owner = {'user': 'postgres', 'group': 'postgres'}
        client.make_dir(DATA, permissions=0o700, **owner)
        workload.run(workload.program('initdb'), '--pgdata', DATA, '--encoding=UTF8', '--no-sync')
        client.push(f'{DATA}/pg_hba.conf', HBA, **owner)
        server = f'{workload.program("postgres")} -D {DATA} -c listen_addresses=* -c fsync=off'
        service: pebble.ServiceDict = {
            'override': 'replace',
            'startup': 'enabled',
            'user': 'postgres',
            'command': f'{server} -c unix_socket_directories={SOCKETS}',
        }
        client.add_layer('postgresql', pebble.Layer({'services': {'postgresql': service}}))
        client.replan_services()
        # Waits until the server accepts connections.
        ready = workload.program('pg_isready')
        wait = f'until {ready} --quiet --host={SOCKETS}; do sleep 0.1; done'
        workload.run('timeout', '50', 'sh', '-c', wait)

    def _serve(self, relation: ops.Relation, version: str):
        """Answer the request of a relation."""
        asked = relation.data[relation.app]
        if not relation.active or 'database' not in asked:
            return
        roles = asked.get('extra-user-roles', '').lower().split(',')
        role = {
            'role': role_of(relation),
            'attribute': 'SUPERUSER' if 'superuser' in roles else 'NOSUPERUSER',
            'password': self._password(relation),
        }
        self._sql(ADD.format(**role), name=asked['database'])
        address = self.model.get_binding(relation).network.bind_address
        relation.data[self.app].update({
            'database': asked['database'],
            'endpoints': f'{address}:{PORT}',
            'version': version,
        })

    def _password(self, relation: ops.Relation) -> str:
        """Return the password of a relation's role; create and publish it the first time."""
        bag, label = relation.data[self.app], f'database.{relation.id}.user.secret'
        if not self.model.juju_version.has_secrets:
            bag['username'] = role_of(relation)
            return bag.setdefault('password', secrets.token_urlsafe(24))
        try:
            return self.model.get_secret(label=label).get_content(refresh=True)['password']
        except ops.SecretNotFoundError:
            content = {'username': role_of(relation), 'password': secrets.token_urlsafe(24)}
        secret = self.app.add_secret(content, label=label)
        secret.grant(relation)
        bag['secret-user'] = secret.id
        return content['password']

    def _drop_former_roles(self):
        """Drop the roles of relations that ended in an earlier hook.

        The role outlives `relation-broken`: the other application's hooks run at the same time, and
        clean up with it.
        """
        current = {role_of(relation) for relation in self.model.relations['database']}
        for role in set(self._sql(OWN_ROLES)) - current:
            for database in self._sql(DATABASES):
                self._sql(f'REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}', database)
            self._sql(f'DROP ROLE {role}')

    def _leftovers(self, event: ops.ActionEvent):
        self._drop_former_roles()
        found = self._sql(LOGINS)
        for database in self._sql(DATABASES):
            found += self._sql(SCHEMAS, database)
        event.set_results({'leftovers': '\n'.join(found)})


if __name__ == '__main__':
    ops.main(PostgreSQL)
