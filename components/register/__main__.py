"""`python -m components.register`."""

from components.register.main import main

main()
