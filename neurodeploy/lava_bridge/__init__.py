"""Real Lava in an environment and a process of its own, behind the simulator interface.

lava_simulator  Lava as a simulator, like ours
worker          the process that runs Lava: starting, watching, ending it, reading its results
runtime         the virtual environment that holds Lava: installing and examining it
"""

from neurodeploy.lava_bridge.lava_simulator import LavaSimulator as LavaSimulator
