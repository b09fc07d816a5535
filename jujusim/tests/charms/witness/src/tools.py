"""Call and check, in an action, every hook tool that ops wraps in hookcmds."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ops import hookcmds

from expectations import expect, holds, refused

if TYPE_CHECKING:
    from charm import Witness


def check_tools(charm: Witness):
    """Raise if a tool does not answer as Juju does."""
    _check_unit(charm)
    _check_state()
    _check_relations(charm)
    if charm.secrets:
        _check_secrets(charm)


def _check_unit(charm: Witness):
    error = hookcmds.Error
    expect(hookcmds.is_leader(), charm.leads, 'is-leader')
    expect(hookcmds.config_get(), dict(charm.model.config), 'config-get')
    expect(hookcmds.config_get('number'), charm.model.config['number'], 'config-get of one option')
    expect(hookcmds.config_get('no-such'), None, 'config-get of an unknown option')
    expect(hookcmds.action_get(), {}, 'action-get without parameters')
    expect(hookcmds.action_get('no-such'), None, 'action-get of an unknown parameter')
    hookcmds.action_log('a line')
    hookcmds.action_set({'a': {'b': 'c'}})
    refused(
        error,
        lambda: hookcmds.action_set({'stdout': 'x'}),
        'a reserved result',
        'cannot set reserved action key',
    )
    refused(
        error,
        lambda: hookcmds.action_set({'A_b': 'x'}),
        'a result with capitals',
        'must start and end with',
    )
    hookcmds.juju_log('a line', level='DEBUG')
    hookcmds.app_version_set('1.2.4')
    goal = hookcmds.goal_state()
    holds(charm.unit.name in goal.units, 'this unit is in goal-state')
    holds('peers' not in goal.relations, 'the peer relation is not in goal-state')
    network = hookcmds.network_get('db')
    expect(len(network.bind_addresses), 1, 'the number of bind addresses')
    refused(error, lambda: hookcmds.network_get('no-such'), 'an unknown binding', 'binding')
    if charm.model.juju_version.supports_open_port_on_k8s:
        hookcmds.open_port('tcp', 5000)
        hookcmds.open_port('tcp', 5000)
        plain = {(port.protocol, port.port) for port in hookcmds.opened_ports()}
        holds(('tcp', 5000) in plain, 'a port that was opened is among the opened')
        ends = [port.endpoints for port in hookcmds.opened_ports(endpoints=True)]
        expect(ends, [['*']] * len(plain), 'the endpoints of the ports')
        hookcmds.close_port('tcp', 5000)
        refused(
            error,
            lambda: hookcmds.open_port('tcp', 5000, to_port=5005),
            'a range of ports',
            'port ranges',
        )
    before = hookcmds.status_get()
    hookcmds.status_set('maintenance', '-x begins with a dash')
    expect(hookcmds.status_get().status, before.status, 'status-get after status-set in one hook')
    refused(
        error,
        lambda: hookcmds.status_set('unknown', ''),
        'a status that no charm sets',
        'invalid status',
    )
    if charm.leads:
        hookcmds.status_set('active', 'of all', app=True)
        expect(hookcmds.status_get(app=True).message, 'of all', 'the status of the application')
    else:
        refused(
            error,
            lambda: hookcmds.status_set('active', 'x', app=True),
            'a follower',
            'not the leader',
        )
        refused(error, lambda: hookcmds.status_get(app=True), 'a follower', 'not the leader')


def _check_state():
    hookcmds.state_set({'kept': 'one\ntwo', 'empty': '', 'gone': 'soon'})
    hookcmds.state_delete('gone')
    expect(hookcmds.state_get('kept'), 'one\ntwo', 'state-get of one key')
    expect(hookcmds.state_get('gone'), '', 'state-get of a missing key')
    expect(hookcmds.state_get(None), {'kept': 'one\ntwo', 'empty': ''}, 'state-get of all keys')
    refused(
        hookcmds.Error,
        lambda: hookcmds.state_set({'k' * 257: 'x'}),
        'a long key',
        'max allowed key',
    )
    refused(
        hookcmds.Error,
        lambda: hookcmds.state_set({'big': 'x' * 65537}),
        'a long value',
        'max allowed value',
    )


def _check_relations(charm: Witness):
    error = hookcmds.Error
    (name,) = hookcmds.relation_ids('peers')
    expect(hookcmds.relation_ids('no-such'), [], 'relation-ids of an unknown endpoint')
    number = int(name.removeprefix('peers:'))
    expect(
        hookcmds.relation_list(number, endpoint='peers', app=True),
        charm.app.name,
        'relation-list --app',
    )
    units = [unit.name for unit in charm.model.relations['peers'][0].units]
    expect(hookcmds.relation_list(number), sorted(units), 'relation-list')
    hookcmds.relation_set({'probe': 'x'}, number, endpoint='peers')
    expect(
        hookcmds.relation_get(number, key='probe', unit=charm.unit.name),
        'x',
        'relation-get after relation-set',
    )
    hookcmds.relation_set({'probe': ''}, number)
    expect(
        hookcmds.relation_get(number, key='probe', unit=charm.unit.name),
        None,
        'relation-get of a removed key',
    )
    if charm.model.juju_version >= '3.6.2':
        for relation in charm.model.relations['db'] + charm.model.relations['back']:
            expect(
                hookcmds.relation_model_get(relation.id).uuid,
                charm.model.uuid,
                'relation-model-get',
            )
    said = 'no unit or application specified'
    refused(error, lambda: hookcmds.relation_get(number), 'relation-get without a unit', said)
    refused(error, lambda: hookcmds.relation_list(99), 'an unknown relation', 'relation not found')
    stranger = f'{charm.app.name}/99'
    refused(error, lambda: hookcmds.relation_get(number, unit=stranger), 'the bag of a stranger')
    if charm.leads:
        return
    said = 'cannot write relation settings'
    refused(error, lambda: hookcmds.relation_set({'x': 'y'}, number, app=True), 'a follower', said)
    for relation in charm.model.relations['db']:
        own = functools.partial(hookcmds.relation_get, relation.id, unit=charm.app.name, app=True)
        if charm.model.juju_version < '4.0':
            refused(error, own, "a follower's look into its application's bag", 'permission denied')
        else:
            own()


def _check_secrets(charm: Witness):
    error = hookcmds.Error
    uri = hookcmds.secret_add(
        {'token': 'x=y', 'long-key': 'one\ntwo\n'}, label='tools', owner='unit'
    )
    number = uri.rsplit('/', 1)[-1].removeprefix('secret:')
    holds(uri in (f'secret://{charm.model.uuid}/{number}', f'secret:{number}'), f'{uri} is a URI')
    expect(
        hookcmds.secret_get(id=uri), {'token': 'x=y', 'long-key': 'one\ntwo\n'}, 'secret-get by id'
    )
    expect(hookcmds.secret_get(label='tools')['token'], 'x=y', 'secret-get by label')
    hookcmds.secret_set(uri, content={'token': 'z'}, description='changed')
    known = hookcmds.secret_ids()
    own = hookcmds.secret_info_get(label='own')
    holds(own.id in known, "the unit's own secret is among secret-ids")
    expect((own.label, own.revision, own.rotation), ('own', 1, 'never'), 'secret-info-get')
    for relation in charm.model.relations['db'] + charm.model.relations['back']:
        hookcmds.secret_grant(own.id, relation.id)
        hookcmds.secret_revoke(own.id, relation_id=relation.id)
    refused(error, lambda: hookcmds.secret_add({'ab': 'x'}), 'a short key', 'key "ab" not valid')
    refused(error, lambda: hookcmds.secret_get(label='nobody'), 'an unknown label', 'not found')
    refused(error, lambda: hookcmds.secret_get(id='no id'), 'a bad id', 'not valid')
    refused(
        error, lambda: hookcmds.secret_info_get(label='nobody'), 'an unknown label', 'not found'
    )
    refused(
        error,
        lambda: hookcmds.secret_grant(own.id, 99),
        'an unknown relation',
        'relation not found',
    )
    if not charm.leads:
        refused(error, lambda: hookcmds.secret_add({'token': 'x'}), 'a follower', 'not the leader')
    # Added and removed in the same hook: nothing is left.
    hookcmds.secret_remove(uri)
