"""Checks of the charm; a failed check raises an error."""

from __future__ import annotations

from collections.abc import Callable


def expect(got: object, wanted: object, what: str):
    """Raise unless both are equal."""
    if got != wanted:
        raise AssertionError(f'expected {what} to be {wanted!r}, got {got!r}')


def holds(true: bool, what: str):
    """Raise unless the condition is true."""
    if not true:
        raise AssertionError(f'expected that {what}')


def refused(error: type[Exception], call: Callable[[], object], what: str, text: str = ''):
    """Raise unless the call raises this error, with this text in it."""
    try:
        call()
    except error as caught:
        said = getattr(caught, 'stderr', str(caught))
        if text not in said:
            raise AssertionError(
                f'expected {text!r} in the refusal of {what}, got {said!r}'
            ) from caught
        return
    raise AssertionError(f'expected {what} to be refused')
