"""A charm that checks the Juju it runs on.

Every handler compares what ops tells with what Juju promises and raises where they differ: then the
hook fails, and the log says which expectation was not met. The action "report" hands out what the
charm has seen.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import json
import logging
from typing import Any

import ops
from ops import hookcmds

from expectations import expect, holds, refused
from tools import check_tools

logger = logging.getLogger(__name__)

PORTS = {ops.Port('tcp', 6432), ops.Port('udp', 53)}
# Values that wrong quoting or parsing between the charm and the databag would change.
AWKWARD = {
    'blanks': '  two before, two after  ',
    'lines': 'one\ntwo\n',
    'quotes': '"double" \'single\' \\back',
    'markup': '<a href="x">&</a>',
    'number': '1.50',
    'truth': 'true',
    'colon': 'key: value # no comment',
    'accents': 'gr\u00fc\u00dfe \u2028',
}
# The handlers of these events change nothing: only the order of the events matters.
LIFE = ('install', 'start', 'upgrade_charm', 'stop', 'remove', 'leader_settings_changed')


class CheckedEvent(ops.EventBase):
    """The charm's own event."""

    def __init__(self, handle: ops.Handle, number: int = 0):
        super().__init__(handle)
        self.number = number

    def snapshot(self) -> dict[str, Any]:
        """Return the data to keep while the event is deferred."""
        return {'number': self.number}

    def restore(self, snapshot: dict[str, Any]):
        """Restore the kept data."""
        self.number = snapshot['number']


class WitnessEvents(ops.CharmEvents):
    """The events of Juju and the charm's own."""

    checked = ops.EventSource(CheckedEvent)


class Witness(ops.CharmBase):
    """The charm."""

    on = WitnessEvents()
    _stored = ops.StoredState()

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._stored.set_default(events=[], joined={}, generations={}, checked=0, deferred=0)
        self.secrets = self.model.juju_version.has_secrets
        self.leads = self.unit.is_leader()
        observe = framework.observe
        for name in LIFE:
            observe(getattr(self.on, name), self._on_life)
        observe(self.on.leader_elected, self._on_leader_elected)
        observe(self.on.config_changed, self._on_config_changed)
        observe(self.on.checked, self._on_checked)
        observe(self.on.update_status, self._on_update_status)
        observe(self.on.collect_unit_status, self._on_collect_unit_status)
        observe(self.on.collect_app_status, self._on_collect_app_status)
        for endpoint in ('peers', 'db', 'back'):
            events = self.on[endpoint]
            observe(events.relation_created, self._on_created)
            observe(events.relation_joined, self._on_joined)
            observe(events.relation_changed, self._on_changed)
            observe(events.relation_departed, self._on_departed)
            observe(events.relation_broken, self._on_broken)
        observe(self.on.secret_changed, self._on_secret_changed)
        observe(self.on.secret_remove, self._on_secret_remove)
        for name in ('report', 'tools', 'rotate', 'revoke', 'schedule', 'echo'):
            observe(getattr(self.on, f'{name}_action'), getattr(self, f'_on_{name}_action'))

    def _record(self, event: str, relation: ops.Relation | None = None):
        """Record an event, after checking what holds in every event."""
        if relation is not None:
            wanted = self._stored.joined.pop(str(relation.id), event)
            expect(event, wanted, 'what follows the joined of a unit, in its relation,')
        self._stored.events.append(event)
        context = ops.JujuContext.from_environ()
        expect(self.model.uuid, context.model_uuid, "the model's uuid")
        expect(self.unit.app, self.app, "the unit's application")
        self._check_config()

    def _check_config(self):
        config = self.model.config
        types = {name: type(value).__name__ for name, value in config.items()}
        wanted = {'text': 'str', 'number': 'int', 'ratio': 'float', 'flag': 'bool'}
        expect(
            {name: kind for name, kind in types.items() if name != 'unset'},
            wanted,
            'the types of the options',
        )
        expect(types.get('unset', 'str'), 'str', 'the type of an option without default')

    # The unit's life cycle

    def _on_life(self, event: ops.HookEvent):
        name = event.handle.kind.replace('_', '-')
        before = list(self._stored.events)
        self._record(name)
        if name == 'install':
            expect(before, [], 'the events before install')
            expect(self.model.relations['peers'], [], 'the relations in install')
            status = self.unit.status
            expect(
                status, ops.MaintenanceStatus('installing charm software'), 'the status in install'
            )
        elif name == 'start':
            # After a pod was lost during a hook, the new pod resumes that hook.
            if before[:1] in (['install'], ['upgrade-charm']):
                holds('config-changed' in before, 'config-changed comes before start')
            self._start()
        elif name == 'upgrade-charm':
            expect(before, [], "the events before a new pod's upgrade-charm")
        elif name == 'leader-settings-changed':
            holds(not self.leads, 'a unit that is told of another leader does not lead')
        elif name == 'remove':
            expect(before[-1], 'stop', 'what comes before remove')
            if self.secrets:
                self.model.get_secret(label='own').remove_all_revisions()

    def _start(self):
        self.unit.set_workload_version('1.2.3')
        if self.model.juju_version.supports_open_port_on_k8s:
            self.unit.set_ports(*PORTS)
            self.unit.open_port('tcp', 9999)
            expect(
                self.unit.opened_ports(),
                PORTS | {ops.Port('tcp', 9999)},
                'the ports within the hook',
            )
            self.unit.close_port('tcp', 9999)
            expect(self.unit.opened_ports(), PORTS, 'the ports after one is closed')
        logger.info('two lines:\nthe second')
        logger.warning('-x begins with a dash')
        logger.error('%s', 'long ' * 30000)
        if self.secrets:
            self._own_secret()

    def _own_secret(self):
        """Add a secret of the unit; it may exist already, from before a new pod."""
        content = {'token': self.unit.name, 'multi-line': AWKWARD['lines']}
        try:
            secret = self.model.get_secret(label='own')
        except ops.SecretNotFoundError:
            secret = self.unit.add_secret(content, label='own', description='of this unit')
            expect(
                self.model.get_secret(id=secret.id).peek_content(), content, 'a secret just added'
            )
            self.model.get_secret(id=secret.id).set_info(description='renewed')
            return
        expect(secret.get_content(refresh=True), content, "the unit's own secret in a new pod")
        info = secret.get_info()
        expect(
            (info.label, info.revision, info.description),
            ('own', 1, 'renewed'),
            "the secret's metadata",
        )
        expect(info.rotation, ops.SecretRotate.NEVER, "the secret's rotation")

    def _on_leader_elected(self, event: ops.LeaderElectedEvent):
        self._record('leader-elected')
        holds(self.leads, 'the unit leads in leader-elected')
        peers = self.model.get_relation('peers')
        assert peers is not None
        peers.data[self.app]['leader'] = self.unit.name
        seen = hookcmds.relation_get(
            peers.id, endpoint='peers', key='leader', unit=self.app.name, app=True
        )
        expect(seen, self.unit.name, 'what was just written to the peer application bag')

    def _on_config_changed(self, event: ops.ConfigChangedEvent):
        self._record('config-changed')
        self._stored.checked += 1
        self.on.checked.emit(self._stored.checked)
        expect(
            self._stored.events[-1],
            f'checked {self._stored.checked}',
            "what the charm's own event left",
        )
        network = self.model.get_binding('peers').network
        holds(
            isinstance(network.bind_address, ipaddress.IPv4Address),
            'the bind address is an address',
        )
        for subnet in network.egress_subnets:
            expect(subnet.prefixlen, 32, 'the length of an egress subnet')

    def _on_checked(self, event: CheckedEvent):
        self._stored.events.append(f'checked {event.number}')

    def _on_update_status(self, event: ops.UpdateStatusEvent):
        """Defer once: the event runs again in the next hook, before that hook's own event."""
        if self._stored.deferred == 0:
            self._stored.deferred = 1
            self._record('update-status, deferred')
            event.defer()
        else:
            self._stored.deferred = 0
            self._record('update-status')

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent):
        """Show the worst status, and the first among equals."""
        event.add_status(ops.ActiveStatus('ready'))
        event.add_status(ops.ActiveStatus('not the first'))
        if not self.model.config['flag']:
            event.add_status(ops.WaitingStatus('not the worst'))
            event.add_status(ops.BlockedStatus('the flag is down'))

    def _on_collect_app_status(self, event: ops.CollectStatusEvent):
        holds(self.unit.is_leader(), 'the unit that sets the status of the application leads')
        event.add_status(ops.ActiveStatus(f'led by {self.unit.name}'))

    # Relations

    def _on_created(self, event: ops.RelationCreatedEvent):
        relation = event.relation
        self._record(f'{relation.name}-relation-created', relation)
        self._check_relation(event)
        expect(relation.units, set(), 'the units when the relation is created')
        expect(event.unit, None, 'the unit of created')
        own = relation.data[self.unit]
        addresses = {'ingress-address', 'egress-subnets'}
        if self.model.juju_version < '4.0':
            addresses.add('private-address')
        expect(
            {key for key in own if key in {*addresses, 'private-address'}},
            addresses,
            "Juju's keys in the bag",
        )
        own.update({'name': self.unit.name, 'gone': 'soon', **AWKWARD})
        own['gone'] = ''
        holds('gone' not in own, 'a key that was removed is gone')
        seen = hookcmds.relation_get(relation.id, endpoint=relation.name, unit=self.unit.name)
        mine = {
            key: value for key, value in seen.items() if not key.endswith(('-address', '-subnets'))
        }
        expect(mine, {'name': self.unit.name, **AWKWARD}, 'the own bag within the hook')
        # Python escapes it as a pair of surrogates, which is not valid YAML.
        refused(
            ops.ModelError,
            lambda: own.update({'face': '\U0001f600'}),
            'an escaped surrogate pair',
            'yaml',
        )
        self._check_access(relation)
        if relation.name == 'db' and self.leads:
            self._serve(relation)

    def _check_access(self, relation: ops.Relation):
        """Check what a unit must not read or write, and the errors of ops."""
        peer = relation.name == 'peers'
        error = ops.RelationDataAccessError
        if not peer:
            theirs = relation.data[relation.app]
            refused(
                error, lambda: theirs.update({'x': 'y'}), "a write to the remote application's bag"
            )
        for other in relation.units:
            bag = relation.data[other]
            refused(
                error, functools.partial(bag.update, {'x': 'y'}), "a write to another unit's bag"
            )
        if self.leads:
            return
        ours = relation.data[self.app]
        refused(
            error, lambda: ours.update({'x': 'y'}), "a follower's write to its application's bag"
        )
        if peer:
            dict(ours)
        else:
            refused(error, lambda: dict(ours), "a follower's look into its application's bag")
        refused(
            RuntimeError, lambda: self.app.status, "a follower's look at its application's status"
        )

    def _check_relation(self, event: ops.RelationEvent, active: bool = True):
        relation = event.relation
        if event.app is None:
            # Only a restarted agent does not know it, and only when the relation breaks.
            holds(
                not active and self._stored.events[0] == 'upgrade-charm', 'the application is named'
            )
        elif relation.name == 'peers':
            expect(event.app, self.app, "the application of a peer relation's event")
        else:
            holds(event.app is not self.app, "a relation's event names another application")
        expect(relation.active, active, f'{relation.name} is active')
        expect(
            relation in self.model.relations[relation.name],
            active,
            f'{relation.name} is among the relations',
        )

    def _on_joined(self, event: ops.RelationJoinedEvent):
        relation = event.relation
        self._record(f'{relation.name}-relation-joined {event.unit.name}', relation)
        self._check_relation(event)
        holds(event.unit in relation.units, f'{event.unit.name} has joined')
        self._stored.joined[str(relation.id)] = (
            f'{relation.name}-relation-changed {event.unit.name}'
        )
        self._check_access(relation)

    def _on_changed(self, event: ops.RelationChangedEvent):
        relation = event.relation
        whose = f' {event.unit.name}' if event.unit else ''
        self._record(f'{relation.name}-relation-changed{whose}', relation)
        self._check_relation(event)
        if event.unit:
            holds(event.unit in relation.units, f'{event.unit.name} is in the relation')
            bag = relation.data[event.unit]
            holds('ingress-address' in bag, f'an address is in the bag of {event.unit.name}')
            expect(bag.get('name'), event.unit.name, f'the name in the bag of {event.unit.name}')
            expect(
                {key: bag.get(key) for key in AWKWARD},
                AWKWARD,
                f'the rest of the bag of {event.unit.name}',
            )
        if relation.name == 'peers':
            holds(
                self.app.planned_units() > len(relation.units),
                'more units are planned than are peers',
            )
            if self.secrets and not self.leads:
                self._follow(relation)
        if relation.name == 'back':
            self._consume(relation)

    def _on_departed(self, event: ops.RelationDepartedEvent):
        relation = event.relation
        self._record(f'{relation.name}-relation-departed {event.unit.name}', relation)
        # A relation that is being removed is no longer listed after its last unit has left.
        self._check_relation(event, active=relation.active or bool(relation.units))
        listed = hookcmds.relation_list(relation.id, endpoint=relation.name)
        holds(event.unit.name not in listed, f'{event.unit.name}, which departs, is not listed')
        departing = event.departing_unit
        assert departing is not None
        own = departing is self.unit
        holds(
            own or departing is event.unit,
            f'{departing.name}, said to depart, is this unit or the other',
        )
        # For a peer relation ops has no databag of a departing unit.
        name = hookcmds.relation_get(relation.id, key='name', unit=event.unit.name)
        expect(name, event.unit.name, f'the name in the bag of {event.unit.name}, which departs,')

    def _on_broken(self, event: ops.RelationBrokenEvent):
        relation = event.relation
        self._record(f'{relation.name}-relation-broken', relation)
        self._check_relation(event, active=False)
        expect(relation.units, set(), 'the units of a broken relation')
        expect(
            relation.data[self.unit].get('name'), self.unit.name, 'the own bag of a broken relation'
        )
        if self.secrets and relation.name == 'db' and self.leads:
            self.model.get_secret(label=f'db-{relation.id}').remove_all_revisions()
            for peers in self.model.relations['peers']:
                peers.data[self.app][f'db-{relation.id}'] = ''

    # Secrets: the leader of the side "db" adds one for each relation, and the other side reads it.

    def _serve(self, relation: ops.Relation):
        bag = relation.data[self.app]
        bag['generation'] = '1'
        if not self.secrets:
            return
        content = {'password': f'one of {relation.id}', 'generation': '1'}
        secret = self.app.add_secret(content, label=f'db-{relation.id}')
        secret.grant(relation)
        bag['secret'] = secret.id
        for peers in self.model.relations['peers']:
            peers.data[self.app][f'db-{relation.id}'] = secret.id

    def _follow(self, peers: ops.Relation):
        """Check that a follower can only read its application's secrets, by their labels."""
        labels = [key for key in peers.data[self.app] if key.startswith('db-')]
        for label in labels:
            secret = self.model.get_secret(label=label)
            expect(set(secret.peek_content()), {'password', 'generation'}, f'the keys of {label}')
            missing = ops.SecretNotFoundError
            refused(missing, secret.get_info, "a follower's look at the metadata")
            named = self.model.get_secret(id=peers.data[self.app][label])
            for relation in self.model.relations['db']:
                grant = functools.partial(named.grant, relation)
                refused(missing, grant, "a follower's grant")

    def _consume(self, relation: ops.Relation):
        bag = relation.data[relation.app]
        generation = bag.get('generation')
        if generation is None:
            return
        holds(generation.isdigit(), f'{generation!r} is a number')
        if self.secrets:
            secret = self.model.get_secret(id=bag['secret'], label='back')
            content = secret.get_content(refresh=True)
            expect(
                content['generation'],
                generation,
                'the generation of the secret, which the bag says,',
            )
            refused(ops.SecretNotFoundError, secret.get_info, "a consumer's look at the metadata")
            self._stored.generations['back'] = generation
        if self.leads:
            relation.data[self.app]['seen'] = generation

    def _on_secret_changed(self, event: ops.SecretChangedEvent):
        label = event.secret.label
        self._record(f'secret-changed {label}')
        pinned = event.secret.get_content()['generation']
        newest = event.secret.peek_content()['generation']
        if label == 'back':
            expect(
                pinned,
                self._stored.generations.get('back', pinned),
                'the generation that is tracked',
            )
            relation = self.model.get_relation('back')
            assert relation is not None
            said = relation.data[relation.app]['generation']
            expect(newest, said, 'the newest generation of the secret, which the bag says,')
            self._stored.generations['back'] = newest
        expect(
            event.secret.get_content(refresh=True)['generation'],
            newest,
            'the generation after a refresh',
        )
        by_label = self.model.get_secret(label=label)
        expect(
            by_label.get_content()['generation'],
            newest,
            'the generation that is tracked after a refresh',
        )

    def _on_secret_remove(self, event: ops.SecretRemoveEvent):
        self._record(f'secret-remove {event.secret.label} {event.revision}')
        holds(
            event.revision < event.secret.get_info().revision,
            'the revision to remove is an old one',
        )
        event.remove_revision()

    def _on_rotate_action(self, event: ops.ActionEvent):
        holds(self.leads, 'the unit that rotates leads')
        for relation in self.model.relations['db']:
            bag = relation.data[self.app]
            before = bag['generation']
            after = str(int(before) + 1)
            bag['generation'] = after
            if not self.secrets:
                continue
            secret = self.model.get_secret(label=f'db-{relation.id}')
            expect(secret.get_content(refresh=True)['generation'], before, 'the generation before')
            revision = secret.get_info().revision
            secret = self.model.get_secret(id=bag['secret'])
            secret.set_content({'password': f'{after} of {relation.id}', 'generation': after})
            expect(
                secret.get_content()['generation'],
                before,
                'the generation that is tracked, within the hook',
            )
            expect(
                secret.peek_content()['generation'], after, 'the newest generation, within the hook'
            )
            expect(
                secret.get_content(refresh=True)['generation'],
                after,
                'the generation refreshed, within the hook',
            )
            event.set_results({'revision': revision + 1})

    def _on_revoke_action(self, event: ops.ActionEvent):
        for relation in self.model.relations['db']:
            label, new = f'db-{relation.id}', f'renamed-{relation.id}'
            secret = self.model.get_secret(id=relation.data[self.app]['secret'])
            secret.revoke(relation)
            expect(secret.get_info().label, label, 'the label')
            secret.set_info(label=new, description='nobody reads it')
            expect(self.model.get_secret(label=new).get_info().label, new, 'the new label')
            old = functools.partial(self.model.get_secret, label=label)
            refused(ops.SecretNotFoundError, old, 'the old label')
            secret.set_info(label=label)
        unknown = functools.partial(self.model.get_secret, id='secret:0123456789abcdefghij')
        refused(ops.SecretNotFoundError, unknown, 'an unknown secret')

    def _on_schedule_action(self, event: ops.ActionEvent):
        """Add the secret, check and change it in the second call, see the change in the third."""
        expire = datetime.datetime(2036, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
        try:
            info = self.model.get_secret(label='scheduled').get_info()
        except ops.SecretNotFoundError:
            self.app.add_secret(
                {'token': 'x'}, label='scheduled', expire=expire, rotate=ops.SecretRotate.YEARLY
            )
            event.set_results({'did': 'add'})
            return
        if info.rotation == ops.SecretRotate.YEARLY:
            expect(info.expires, expire, 'the time of expiry')
            holds(info.rotates is not None, 'the time of rotation is known')
            later = expire + datetime.timedelta(days=1)
            self.model.get_secret(id=info.id).set_info(expire=later, rotate=ops.SecretRotate.NEVER)
            event.set_results({'did': 'change'})
        else:
            expect(info.rotation, ops.SecretRotate.NEVER, 'the changed rotation')
            expect(info.expires, expire + datetime.timedelta(days=1), 'the changed time of expiry')
            event.set_results({'did': 'look'})

    # Actions

    def _on_echo_action(self, event: ops.ActionEvent):
        params = event.params
        event.log('one line')
        event.log('-another: with a dash')
        if params['crash']:
            raise RuntimeError('as was asked for')
        event.set_results(
            {
                'types': {name: type(value).__name__ for name, value in sorted(params.items())},
                'deep': {'er': {'text': params['text']}},
                'equals': 'a=b=c',
            }
        )
        if 'fail' in params:
            event.fail(params['fail'])

    def _on_tools_action(self, event: ops.ActionEvent):
        check_tools(self)
        event.set_results({'checked': 'yes'})

    def _on_report_action(self, event: ops.ActionEvent):
        event.set_results({'report': json.dumps(self._report())})

    def _report(self) -> dict[str, Any]:
        relations = []
        for name in ('peers', 'db', 'back'):
            for relation in self.model.relations[name]:
                bags = {other.name: self._bag(relation, other) for other in relation.units}
                relations.append(
                    {
                        'name': f'{name}:{relation.id}',
                        'app': relation.app.name,
                        'units': sorted(bags),
                        'bags': {**bags, self.unit.name: self._bag(relation, self.unit)},
                        'remote': self._bag(relation, relation.app),
                        'own': self._bag(relation, self.app)
                        if self.leads or name == 'peers'
                        else None,
                    }
                )
        ports = (
            self.unit.opened_ports() if self.model.juju_version.supports_open_port_on_k8s else set()
        )
        return {
            'events': list(self._stored.events),
            'leader': self.leads,
            'planned': self.app.planned_units(),
            'config': dict(self.model.config),
            'status': [self.unit.status.name, self.unit.status.message],
            'app-status': [self.app.status.name, self.app.status.message] if self.leads else None,
            'ports': sorted(f'{port.port}/{port.protocol}' for port in ports),
            'address': str(self.model.get_binding('peers').network.bind_address),
            'relations': relations,
            'secret': self._read_secret() if self.secrets else None,
            'juju': str(self.model.juju_version),
            'model': self.model.name,
        }

    def _read_secret(self) -> str:
        """Return the content of the other side's secret, or Juju's error."""
        try:
            return self.model.get_secret(label='back').get_content(refresh=True)['password']
        except ops.ModelError as error:
            return f'{type(error).__name__}: {error}'.strip()

    def _bag(self, relation: ops.Relation, whose: ops.Unit | ops.Application) -> dict[str, str]:
        """Return what charms wrote into the databag."""
        theirs = {'ingress-address', 'egress-subnets', 'private-address', *AWKWARD}
        return {key: value for key, value in relation.data[whose].items() if key not in theirs}


if __name__ == '__main__':
    ops.main(Witness)
