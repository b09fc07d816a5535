"""Read the charm in the given directory as ops does in a pod; run each event and action once.

The events run with default values in ops' own simulation of Juju, whose consistency checks
refuse metadata that Juju would refuse.
"""

import json
import pathlib
import sys

import ops
import yaml
from ops import testing

root = pathlib.Path(sys.argv[1])
meta = ops.CharmMeta.from_charm_root(root)


def load(name: str):
    return yaml.safe_load((root / name).read_text())


context = testing.Context(
    ops.CharmBase,
    meta=load('metadata.yaml'),
    config=load('config.yaml'),
    actions=load('actions.yaml'),
)
options = load('config.yaml')['options']
defaults = {name: option['default'] for name, option in options.items() if 'default' in option}
peers = [
    testing.PeerRelation(name, relation.interface_name, peers_data={1: {}})
    for name, relation in meta.peers.items()
]
others = [
    testing.Relation(name, relation.interface_name, remote_units_data={1: {}})
    for name, relation in {**meta.provides, **meta.requires}.items()
]
containers = [testing.Container(name, can_connect=True) for name in meta.containers]
state = testing.State(
    config=defaults, relations=[*peers, *others], containers=containers, leader=True
)

for event in (
    context.on.install(),
    context.on.config_changed(),
    context.on.start(),
    context.on.update_status(),
):
    context.run(event, state)
for relation in [*peers, *others]:
    context.run(context.on.relation_created(relation), state)
    context.run(context.on.relation_changed(relation, remote_unit=1), state)
for container in containers:
    context.run(context.on.pebble_ready(container), state)
for action in meta.actions:
    context.run(context.on.action(action), state)


def endpoints(relations: dict[str, ops.RelationMeta]):
    return {name: [relation.interface_name, relation.limit] for name, relation in relations.items()}


print(
    json.dumps(
        {
            'name': meta.name,
            'peers': endpoints(meta.peers),
            'provides': endpoints(meta.provides),
            'requires': endpoints(meta.requires),
            'actions': sorted(meta.actions),
            'options': sorted(options),
            'containers': sorted(meta.containers),
            'resources': {name: resource.type for name, resource in meta.resources.items()},
            'undescribed': sorted(
                [name for name, option in options.items() if not option.get('description')]
                + [name for name, action in meta.actions.items() if not action.description]
            ),
        }
    )
)
