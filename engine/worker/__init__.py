"""The process that trains, and the children that need torch."""

import logging

# It warns of a package of kernels that it would fetch from the hub; nobody here asked for that, and nothing is to be done.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
