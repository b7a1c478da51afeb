"""`python -m nunbit` is `nunbit`."""

from nunbit.cli import main

raise SystemExit(main())
