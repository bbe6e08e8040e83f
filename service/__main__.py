"""`python -m service` is `hindsight`."""

from service.cli import main

if __name__ == "__main__":
    main()
