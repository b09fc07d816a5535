#!/usr/bin/env python3
"""A client of PgBouncer for `make integration`."""

from __future__ import annotations

import json

import ops
from ops import pebble

from workload import Workload

REQUEST = {'database': 'shop', 'requested-secrets': '["username", "password", "uris", "tls"]'}


class Client(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.workload = Workload(self.charm_dir)
        framework.observe(self.on.start, self._report)
        framework.observe(self.on.database_relation_created, self._request)
        framework.observe(self.on.database_relation_changed, self._report)
        framework.observe(self.on.database_relation_broken, self._report)
        framework.observe(self.on.sql_action, self._sql)

    def _request(self, event: ops.RelationCreatedEvent):
        if self.unit.is_leader():
            event.relation.data[self.app].update(REQUEST)

    def _answer(self) -> dict[str, str]:
        """Return what PgBouncer's charm published, with the content of its secret."""
        relation = self.model.get_relation('database')
        if not relation or not relation.active:
            return {}
        answer = dict(relation.data[relation.app])
        if 'secret-user' in answer:
            secret = self.model.get_secret(id=answer['secret-user'])
            answer.update(secret.get_content(refresh=True))
        return answer

    def _report(self, _: ops.EventBase):
        if 'password' in self._answer():
            self.unit.status = ops.ActiveStatus()
        else:
            self.unit.status = ops.WaitingStatus('waiting for the database')

    def _sql(self, event: ops.ActionEvent):
        answer = self._answer()
        if 'password' not in answer:
            event.fail('there are no credentials: integrate with PgBouncer')
            return
        port = answer['endpoints'].rpartition(':')[2]
        login = f'port={port} user={answer["username"]} dbname={answer["database"]}'
        try:
            answers = [
                self.workload.psql(
                    f'host={host} {login}', event.params['statement'], answer['password']
                )
                for host in event.params['addresses'].split(',')
            ]
        except pebble.ExecError as error:
            event.fail(error.stderr)
        else:
            event.set_results({'answers': json.dumps(['\n'.join(lines) for lines in answers])})


if __name__ == '__main__':
    ops.main(Client)
