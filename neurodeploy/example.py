"""A small verified network with samples, which comes with neurodeploy and needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.files import CERTIFICATE, NET, SAMPLES, example_path
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.netx import read
from neurodeploy.reports.certificate import Certificate
from neurodeploy.samples.array_files import load_inputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """A deployed network of handwritten digits, and test images that it has not been trained on.

    Attributes:
        net: The netx file, which lava-dl loads as well.
        samples: The archive of inputs and labels.
        graph: The network in the chip's integers.
        inputs: (samples, T, 1, 8, 8) int32, pixels from 0 to 16.
        labels: (samples,) int64, the digits.
        certificate: Of the comparison with real Lava on these samples.
    """

    net: Path
    samples: Path
    graph: FixedPointGraph
    inputs: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int64]
    certificate: Certificate


def load_example() -> Example:
    """Return a small verified network with samples.

    Two spiking convolutions and a read-out, trained on scikit-learn's digits and compared with real
    Lava; `certificate.check(net, samples)` repeats the comparison.

    Example:
        >>> import neurodeploy as nd
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> int((recording.prediction == example.labels).sum()), len(example.labels)
        (29, 32)
    """
    folder = example_path()
    net, samples = folder / NET, folder / SAMPLES
    certificate = Certificate.load(folder / CERTIFICATE)
    run = certificate.run
    return Example(
        net=net,
        samples=samples,
        graph=read(net, input_shape=run.input_shape, input_bits=run.input_bits),
        inputs=load_inputs(samples).astype(np.int32),
        labels=load_inputs(samples, key="label").astype(np.int64),
        certificate=certificate,
    )
