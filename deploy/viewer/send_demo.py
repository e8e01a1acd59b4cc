"""`send_demo.py FOLDER NODE_PORT PACS_PORT`: a phantom pair with known defects to the node, its CT to the PACS too."""

import sys
import time
from pathlib import Path

from analysis.truth.phantom import thorax_phantom
from dicom_node.commands.demonstration import send, write_phantom
from dicom_node.errors import Unavailable


def main(folder: Path, ports: tuple[int, ...]) -> None:
    images = write_phantom(thorax_phantom(), folder / "images", lambda stage, share: None)
    for port in ports:
        for attempt in range(60):
            try:
                send(images, port, lambda share: None)
                break
            except Unavailable:  # still starting
                if attempt == 59:
                    raise
                time.sleep(1)
    print("The demo study is sent; its results reach the PACS in one to three minutes.", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(int(port) for port in sys.argv[2:]))
