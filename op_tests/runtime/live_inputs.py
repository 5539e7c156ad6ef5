"""The tensors of a case that stay where they are on a device while their contents change: what lives in a captured
graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from runtime.driver import Driver, Graph

import aiter_c
from aiter_c.testing import Device, check_outputs
from aiter_c.testing.case import Case
from aiter_c.testing.device import Copies


class LiveInputs:
    """A case whose op writes what it is given, and a graph of one call."""

    def __init__(self, case: Case, device: Device) -> None:
        self.case, self.device, self.inputs = case, device, case.inputs()
        self.driver, self.copies = Driver(device), Copies(device.place)
        self.stream = self.driver.stream()
        self.arguments = {
            name: self.copies.tensor(value) if isinstance(value, np.ndarray) else value
            for name, value in self.inputs.arguments().items()
        }

    def enqueue(self) -> None:
        """The call; nothing waits for it."""
        getattr(aiter_c, self.case.op)(**self.arguments, stream=self.stream)

    def eager(self) -> None:
        """The call, done."""
        self.enqueue()
        self.driver.synchronize(self.stream)

    def capture(self) -> Graph:
        """A graph of the call, after one that loads the code."""
        self.eager()
        with Graph(self.driver, self.stream) as graph:
            self.enqueue()
        return graph

    def after(self, launch: Callable[[], object]) -> dict[str, np.ndarray]:
        """What a launch leaves in the outputs, on the contents that the host has now; nothing changes around them."""
        self.inputs.freeze()
        for address, data in self.copies.blocks():
            self.driver.write(address, data)
        launch()
        for address, data in self.copies.blocks():
            self.driver.read(address, data)
        self.inputs.check_untouched()
        return {name: self.inputs.array(name).copy() for name in self.inputs.written}

    def check_replay(self, graph: Graph, step: object) -> dict[str, np.ndarray]:
        """A replay is the eager call to the bit, and right by the reference; returns what it left."""
        replayed = self.after(graph.launch)
        for name, want in self.after(self.eager).items():
            assert replayed[name].tobytes() == want.tobytes(), f"{name}, step {step}: {self.case.repro}"
        case, inputs = self.case, self.inputs
        returned = tuple(inputs.array(name) for name in inputs.written)
        got = case.outputs(inputs, returned[0] if len(returned) == 1 else returned)
        check_outputs(got, case.expected(inputs, self.device), case.repro)
        return replayed
