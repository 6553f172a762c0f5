import socket
import threading
import time

from jtln_tf.config import network_access


def test_a_server_that_answers_anything_is_there_and_one_that_is_silent_is_not(monkeypatch):
    monkeypatch.setattr(network_access, "_MOST_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/some/file.h5"

        def answer():
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert network_access.can_reach(address) and not network_access.has_file(address)
        thread.join()
        network_access._ask.cache_clear()
        begun = time.perf_counter()
        assert not network_access.can_reach(address) and time.perf_counter() - begun < 5
    network_access._ask.cache_clear()
    assert not network_access.can_reach(address)
    network_access._ask.cache_clear()
