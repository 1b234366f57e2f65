"""`python -m components.deploy`."""

from components.deploy.main import main

main()
