"""Takes its process with it, as a native extension built for another machine does."""

import os

os._exit(7)
