"""MACs of an ordinary network by layer: of a spiking network's ReLU twin, or of an ONNX model.

The counts of the ReLU twin travel with a deployed network, whose own layers cannot tell them:
relay channels, merged groups and folded pools make a deployed network larger than its twin.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnLayerMacs:
    """MACs of one layer in one pass.

    Attributes:
        name: The layer.
        type: "conv" or "dense"; the operator in an ONNX model.
        macs_standard: By the textbook, taps on padding included.
        macs_border_exact: Without the taps on padding.
        macs_nonzero: Those of `macs_border_exact` through weights other than zero; None if not
            known.
        weights: Stored weights.
        zero_weights: Those of them that are zero; 0 where that is not known.
        inputs: Values read.
        outputs: Values written.
    """

    name: str
    type: str
    macs_standard: int
    macs_border_exact: int
    macs_nonzero: int | None = None
    weights: int
    zero_weights: int = 0
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnMacs:
    """MACs of an ANN in one pass, batch 1: the ReLU twin, or an ONNX model.

    Attributes:
        layers: One row a layer.
        macs_effective: Mean of a pass without products with a zero weight or activation; None
            if not measured.
    """

    layers: tuple[AnnLayerMacs, ...]
    macs_effective: float | None = None

    @property
    def macs_standard(self) -> int:
        """Textbook MACs of a pass."""
        return sum(layer.macs_standard for layer in self.layers)

    @property
    def macs_border_exact(self) -> int:
        """MACs of a pass without the taps on padding."""
        return sum(layer.macs_border_exact for layer in self.layers)

    @property
    def macs_nonzero(self) -> int | None:
        """Those of `macs_border_exact` through weights other than zero; None if not known."""
        known = [layer.macs_nonzero for layer in self.layers if layer.macs_nonzero is not None]
        return sum(known) if len(known) == len(self.layers) else None
