"""Events of SBML: triggers, delays, priorities and assignments, for every sample of a batch on its own.

The adaptive solver finds when a trigger turns; this file says what happens then (SBML Level 3 Version 2, 4.11).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

Batched = Callable[[Tensor, Tensor, Any], Tensor]
"""`(t [B], x [B, d], p) -> [B, n]`."""
CASCADE = 1000
"""Executions at one instant after which a cascade is taken to have no end."""


class Event(Protocol):
    """What is fixed about one event.

    Attributes:
        name: its id, for messages.
        initial: the trigger's value just before the start; False lets it happen at t = 0.
        persistent: False: withdrawn when the trigger turns false before execution.
        delay: None: it has no delay.
        priority: None: it has no priority.
        from_trigger_time: it assigns values of trigger time rather than of execution time.
        assignments: as many as it assigns.
    """

    name: Any
    initial: Any
    persistent: Any
    delay: Any
    priority: Any
    from_trigger_time: Any
    assignments: Any


class Conditions(Protocol):
    """The functions of E events and S switches; a compiled network is one.

    Attributes:
        events: in document order.
        trigger: bool `[B, E]`.
        trigger_root: `[B, E]`, changes sign where a trigger turns.
        switches: `[B, S]`, change sign where the rate may jump.
        delay: `[B, E]`.
        priority: `[B, E]`.
    """

    events: Any
    trigger: Any
    trigger_root: Any
    switches: Any
    delay: Any
    priority: Any

    def values(self, e: int, t: Tensor, x: Tensor, p: Any) -> Tensor:
        """`[B, k]`, what event e would assign."""
        ...

    def apply(self, e: int, values: Tensor, t: Tensor, x: Tensor, p: Any) -> Tensor:
        """`[B, d]`, the state with them assigned."""
        ...


@dataclass
class Queue:
    """What the events of a batch remember: one row per sample.

    Attributes:
        signs: `[n, E + S]`, triggers and switches as last seen.
        due: `[n, Q]`, execution times; infinity where a slot is free.
        event: `[n, Q]`, which event waits in a slot.
        order: `[n, Q]`, order of arrival.
        values: `[n, Q, k]`, values from trigger time.
        arrivals: `[n]`, how many have arrived.
        failed: `[n]`, which event went wrong; -1: none.
        fired: `[n]`, how many have been executed.
    """

    signs: Tensor
    due: Tensor
    event: Tensor
    order: Tensor
    values: Tensor
    arrivals: Tensor
    failed: Tensor
    fired: Tensor

    def take(self, rows: Tensor) -> "Queue":
        """The queue of these samples."""
        return Queue(*(value[rows] for value in vars(self).values()))

    def put(self, rows: Tensor, other: "Queue") -> None:
        """Write the queue of these samples back."""
        self.grow(other.due.shape[1])
        for name, value in vars(other).items():
            getattr(self, name)[rows] = value

    def grow(self, slots: int) -> None:
        """Make room for as many waiting executions per sample."""
        more = slots - self.due.shape[1]
        if more > 0:
            n = len(self.due)
            self.due = torch.cat([self.due, self.due.new_full((n, more), torch.inf)], 1)
            self.event = torch.cat([self.event, self.event.new_zeros((n, more))], 1)
            self.order = torch.cat([self.order, self.order.new_zeros((n, more))], 1)
            self.values = torch.cat([self.values, self.values.new_zeros((n, more, self.values.shape[2]))], 1)


@dataclass
class Events:
    """All events of a model, and the switches (where a rate jumps) to step onto.

    At one instant: every trigger that turned true is queued (delay and, where asked for, values evaluated); of the
    executions that are due, the one of highest priority runs; priorities and triggers are evaluated anew; and so on
    until none is due. Executions of equal priority run in random order, drawn from `seed` and the sample's row; those
    without a priority run after the others, in order of arrival.

    Args:
        of: the functions.
        seed: of the random order.
        snap: times on which a location within rounding is placed exactly (the output grid).
    """

    of: Conditions
    seed: int = 0
    snap: Tensor | None = None

    @property
    def events(self) -> Sequence[Event]:
        """In document order."""
        return self.of.events

    def signs(self, t: Tensor, x: Tensor, p: Any) -> Tensor:
        """Every trigger (0 or 1), then the sign of every switch: `[B, E + S]`, int8."""
        switches = self.of.switches(t, x, p).nan_to_num(0.0).sign().to(torch.int8)
        return torch.cat([self.of.trigger(t, x, p).to(torch.int8), switches], -1)

    def turned(self, before: Tensor, now: Tensor) -> Tensor:
        """Which triggers and switches differ, `[B, E + S]`; a switch that was exactly zero had no side to leave."""
        E = len(self.events)
        different = now != before
        return torch.cat([different[..., :E], (different & (before != 0))[..., E:]], -1)

    def roots(self, t: Tensor, x: Tensor, p: Any) -> Tensor:
        """Numbers that change sign where those do, `[B, E + S]`."""
        return torch.cat([self.of.trigger_root(t, x, p), self.of.switches(t, x, p)], -1)

    def start(self, t: Tensor, x: Tensor, p: Any, row: Tensor) -> tuple[Queue, Tensor]:
        """The queue at the start, and the state after what fires there."""
        n, width = len(x), max([1, *(len(event.assignments) for event in self.events)])
        signs = self.signs(t, x, p)
        before = signs.clone()
        for i, event in enumerate(self.events):
            before[:, i] = int(event.initial)
        whole: dict[str, Any] = {"dtype": torch.long, "device": x.device}
        queue = Queue(
            before, x.new_full((n, 2), torch.inf), torch.zeros(n, 2, **whole), torch.zeros(n, 2, **whole),
            x.new_zeros((n, 2, width)), torch.zeros(n, **whole), torch.full((n,), -1, **whole),
            torch.zeros(n, **whole),
        )  # fmt: skip
        return queue, self.fire(queue, t, x, p, row)

    def fire(self, queue: Queue, t: Tensor, x: Tensor, p: Any, row: Tensor) -> Tensor:
        """Do all that is due at t, and return the state after it.

        Args:
            queue: of these samples; changed in place.
            t: `[n]`.
            x: `[n, d]`.
            p: parameters of these samples.
            row: `[n]`, which sample of the whole batch each is (random order depends on it alone).
        """
        x = x.clone()
        everyone = torch.arange(len(x), device=x.device)
        self._notice(queue, everyone, t, x, p)
        for _ in range(CASCADE):
            ready = (queue.due <= t[:, None]) & (queue.failed < 0)[:, None]
            rows = ready.any(1).nonzero().squeeze(-1)
            if not len(rows):
                return x
            slot = self._choose(queue, ready, rows, t, x, p, row)
            chosen = queue.event[rows, slot]
            queue.due[rows, slot] = torch.inf
            queue.fired[rows] += 1
            for i in chosen.unique().tolist():
                event, mine = self.events[i], rows[chosen == i]
                at = t[mine], x[mine], pick(p, mine)
                if event.from_trigger_time:
                    values = queue.values[mine, slot[chosen == i], : len(event.assignments)]
                else:
                    values = self.of.values(i, *at)
                x[mine] = self.of.apply(i, values, *at)
            self._notice(queue, rows, t, x, p)
        stuck = (queue.due <= t[:, None]).any(1) & (queue.failed < 0)
        last = queue.event.gather(1, queue.due.argmin(1, keepdim=True)).squeeze(1)
        queue.failed = torch.where(stuck, last, queue.failed)
        return x

    def _notice(self, queue: Queue, rows: Tensor, t: Tensor, x: Tensor, p: Any) -> None:
        """Queue the events whose triggers turned true, forget those that turned false and do not persist."""
        now = self.signs(t[rows], x[rows], pick(p, rows))
        before = queue.signs[rows]
        queue.signs[rows] = now
        for i, event in enumerate(self.events):
            fell = rows[now[:, i] < before[:, i]]
            if not event.persistent and len(fell):
                waiting = queue.due[fell]
                queue.due[fell] = torch.where(queue.event[fell] == i, torch.inf, waiting)
            rose = rows[now[:, i] > before[:, i]]
            if len(rose):
                self._enqueue(queue, i, rose, t, x, p)

    def _enqueue(self, queue: Queue, i: int, rows: Tensor, t: Tensor, x: Tensor, p: Any) -> None:
        event, at = self.events[i], (t[rows], x[rows], pick(p, rows))
        due = t[rows]
        if event.delay is not None:
            delay = self.of.delay(*at)[:, i]
            bad = ~(delay >= 0)
            queue.failed[rows[bad]] = i
            rows = rows[~bad]
            at = t[rows], x[rows], pick(p, rows)
            due = self.snapped(t[rows] + delay[~bad])
        free = queue.due[rows] == torch.inf
        if not bool(free.any(1).all()):
            queue.grow(2 * queue.due.shape[1])
            free = queue.due[rows] == torch.inf
        slot = free.long().argmax(1)
        queue.due[rows, slot] = due
        queue.event[rows, slot] = i
        queue.order[rows, slot] = queue.arrivals[rows]
        queue.arrivals[rows] += 1
        if event.from_trigger_time:
            values = self.of.values(i, *at)
            padded = values.new_zeros((len(rows), queue.values.shape[2]))
            padded[:, : values.shape[1]] = values
            queue.values[rows, slot] = padded

    def _choose(self, queue: Queue, ready: Tensor, rows: Tensor, t: Tensor, x: Tensor, p: Any, row: Tensor) -> Tensor:  # fmt: skip
        """The slot to execute next, for each of `rows`."""
        ready, event, order = ready[rows], queue.event[rows], queue.order[rows]
        at = t[rows], x[rows], pick(p, rows)
        ranked = torch.full_like(queue.due[rows], -torch.inf)
        if any(each.priority is not None for each in self.events):
            ranked = self.of.priority(*at).nan_to_num(-torch.inf).gather(1, event).to(ranked.dtype)
            ranked = torch.where(ready, ranked, -torch.inf)
        best = ranked.amax(1, keepdim=True)
        among = ready & (ranked == best)
        drawn = _uniform(self.seed, row[rows][:, None], order)
        # Smallest key wins: the draw among equal priorities, the order of arrival among those without one.
        key = torch.where(best > -torch.inf, drawn, order.to(drawn.dtype))
        return torch.where(among, key, torch.inf).argmin(1)

    def snapped(self, t: Tensor) -> Tensor:
        """t, placed on the nearest time of `snap` where rounding alone separates them."""
        if self.snap is None:
            return t
        right = torch.searchsorted(self.snap, t.contiguous()).clamp(max=len(self.snap) - 1)
        left = (right - 1).clamp(min=0)
        near = torch.where(
            (self.snap[right] - t).abs() < (t - self.snap[left]).abs(), self.snap[right], self.snap[left]
        )
        close = (near - t).abs() <= 8 * torch.finfo(t.dtype).eps * t.abs().clamp(min=1e-3)
        return torch.where(close, near, t)

    def on(self, grid: Tensor) -> "Events":
        """The same events, located exactly on these times where rounding alone separates them."""
        return replace(self, snap=grid)


def pick(p: Any, rows: Tensor) -> Any:
    """Rows of batched parameters; anything without a batch axis stays as it is."""
    return p[rows] if isinstance(p, Tensor) and p.ndim > 1 else p


def _uniform(seed: int, row: Tensor, draw: Tensor) -> Tensor:
    """A number in [0, 1) from three integers: the same for a sample whatever stands beside it."""
    start = (seed * 7046029254386353131 + 2**63) % 2**64 - 2**63
    z = start + row * -7046029288634856825 + draw * -4417276706812531889
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685), (31, 1)):
        z = (z ^ (z >> shift)) * factor
    return ((z >> 11) & ((1 << 52) - 1)).double() / (1 << 52)
