"""Commands around the Lava runtime: install, doctor."""

from __future__ import annotations
