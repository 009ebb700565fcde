"""`python -m amber_ray.cli`: the command without its script."""

import sys

from amber_ray.cli import main

sys.exit(main())
