"""`python -m app` is `lmdesk`."""

import sys

from app.main import main

sys.exit(main())
