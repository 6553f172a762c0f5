"""`python -m jtln_tf VERB` is the command `jtln VERB`."""

from jtln_tf.tools.command import main

if __name__ == "__main__":
    main()
