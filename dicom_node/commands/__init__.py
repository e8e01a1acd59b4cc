"""What a person types -> what the other rooms do, an exit code and one sentence.

In: arguments and one configuration file. Out: terminal and files. The only room that configures logs.
"""
