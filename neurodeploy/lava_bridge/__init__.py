"""Real Lava in an environment and a process of its own, behind the simulator interface."""

from neurodeploy.lava_bridge.lava_simulator import LavaSimulator as LavaSimulator
