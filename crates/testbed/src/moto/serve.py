# Serves S3 from memory on a port of this machine until standard input ends, so that no server outlives its test.
import logging
import os
import sys

from moto import __version__
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
print(server.get_host_and_port()[1], __version__, flush=True)
sys.stdin.buffer.read()
os._exit(0)
