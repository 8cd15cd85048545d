"""`python -m llmrec` runs the command line of this interpreter's environment."""

from llmrec.cli import main

if __name__ == "__main__":
    main()
