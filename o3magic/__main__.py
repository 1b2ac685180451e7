"""`python -m o3magic` is the `o3magic` command."""

from o3magic.cli.main import main

raise SystemExit(main())
