"""Networks of other frameworks that come in exactly, and how their files are to be read."""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden" / "interchange"
EXACT = {
    "01_snntorch_leaky_dense": {},
    "02_snntorch_synaptic_dense": {"convention": "snntorch"},
    "04_snntorch_conv_avgpool": {},
    "05_snntorch_rleaky": {},
    "06_spikingjelly_ties": {"convention": "spikingjelly"},
    "07_spikingjelly_conv": {"convention": "spikingjelly"},
    "08_spikingjelly_residual": {"convention": "spikingjelly"},
    "09_norse_lifbox": {"convention": "norse"},
    "12_sinabs_iaf_sumpool": {"convention": "sinabs"},
    "16_nir_nested": {},
    "19_nir_conv_shapes": {},
}
