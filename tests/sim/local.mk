# The simulated cluster.
