# SPDX-License-Identifier: MIT
"""What ``--help`` teaches beyond the options: keys, examples, and what the exit status says."""

from __future__ import annotations

from typing import Final

_FATES: Final = """\
exit status:
  0    acknowledged: the exchange says it is done
  1    rejected: the exchange answered no (420: filled, cancelled, never there)
  2    wrong usage or invalid input; nothing was sent
  3    outcome unknown: sent, and no answer came; look at your open orders
  4    not sent: no connection, or it was lost before the request left
  130  interrupted with Ctrl-C; if it was sent, the output says so, and the
       outcome is unknown
"""

_KEYS: Final = """\
where the key comes from:
  the environment variable PACIFICA_PRIVATE_KEY, or another (--key-env NAME), or
  a file (--key-file PATH). It is the base58 of a 64-byte Solana secret key or
  of a 32-byte seed; a file may also be a Solana id.json. A key is never an
  argument: arguments are visible to every user of the machine, and stay in the
  shell's history. With --account the key is an agent wallet of that account.
"""

_TRY_IT: Final = """\
try it without money or network, in one terminal:
  key=$(pacifica-fast keygen --out mock.json)
  pacifica-fast mock-exchange --orders-for "$key"
and in another:
  pacifica-fast cancel-all --network mock --key-file mock.json
"""

_OTHER_STATUSES: Final = """\
exit status: 0; 1 if it failed; 2 for wrong usage or invalid input
"""

MAIN: Final = f"""\
start here, without money, key or network:
  pacifica-fast demo

then:
  pacifica-fast cancel BTC --order-id 42069 --network testnet --key-file id.json
  pacifica-fast cancel-all --network mainnet --json
  pacifica-fast doctor

{_KEYS}
exit status of cancel and cancel-all:
{_FATES.partition(chr(10))[2]}
'pacifica-fast COMMAND --help' tells more, with examples. Every command has
--json, whose shapes are in docs/command-line.md. Colours appear on a terminal
only, and not if NO_COLOR is set."""

DEMO: Final = """\
examples:
  pacifica-fast demo
  pacifica-fast demo --rounds 1000 --json

It makes its own keys and its own exchange, and leaves nothing behind.

exit status: 0 if every fate was as it should be and every signature verified;
1 if not
"""

MONITOR: Final = """\
examples:
  pacifica-fast monitor
  pacifica-fast monitor http://127.0.0.1:9464/metrics --once --json

The bot offers itself with pacifica_fast.prometheus.serve(client), see
docs/observability.md; that needs pip install 'pacifica-fast[metrics]'. It ends
with q, Ctrl-C or SIGTERM; a bot that goes away is waited for.

exit status: 0; with --once 1 if the bot does not answer
"""

CANCEL: Final = f"""\
examples:
  pacifica-fast cancel BTC --order-id 42069 --network testnet
  pacifica-fast cancel ETH --network mainnet --key-file id.json --json \\
      --client-order-id 79f948fd-7556-4066-a128-083f3ea49322

{_KEYS}
{_FATES}
{_TRY_IT}"""

CANCEL_ALL: Final = f"""\
examples:
  pacifica-fast cancel-all --network mainnet
  pacifica-fast cancel-all --symbol BTC --exclude-reduce-only --network testnet

{_KEYS}
{_FATES}
{_TRY_IT}"""

SIGN: Final = f"""\
examples:
  pacifica-fast sign cancel_order '{{"symbol":"BTC","order_id":42069}}'
  pacifica-fast sign create_order --key-file id.json < order.json

DATA is the operation's payload, as the exchange documents it; decimals are
strings. What is printed: message, signature (base58), timestamp, expiry_window,
account, and agent_wallet if there is one.

{_KEYS}
{_OTHER_STATUSES}"""

KEYGEN: Final = f"""\
examples:
  pacifica-fast keygen --out id.json
  solana-keygen pubkey id.json            # Solana's own tools read it

The public half, which is printed, is the account, or the agent wallet to be
bound to one.

{_OTHER_STATUSES}"""

MOCK: Final = f"""\
examples:
  pacifica-fast mock-exchange
  pacifica-fast mock-exchange --port 0 --json --stop-on-eof
  pacifica-fast mock-exchange --faults drop_after=0.01,delay=0.1 --seed 7

It verifies every signature and matches no orders. It ends with Ctrl-C or
SIGTERM. SIGUSR1 makes it carry out the next request and not answer it.

{_TRY_IT}
{_OTHER_STATUSES}"""

DOCTOR: Final = """\
examples:
  pacifica-fast doctor                    # paste this into a bug report
  pacifica-fast doctor --explain          # what each thing costs
  pacifica-fast doctor --json
  python -c 'from pacifica_fast import doctor; print(doctor.report())'

The last one, called in your bot, is about your bot's process: its threads, its
switch interval. Nothing is sent, and no key and no account is printed.

ok, info: nothing to do. warn: costs time or safety. bad: does not work.
unknown: this system cannot tell.

exit status: 0; 1 if something is bad
"""

BENCH: Final = """\
examples:
  pacifica-fast bench --quick
  pacifica-fast bench --out report --only wire
  pacifica-fast bench --integrations      # your library, before and after
  pacifica-fast bench --list

It signs with a key made for this and sends to exchanges on this machine. Needed
is what the official SDK signs with: pip install 'pacifica-fast[bench]'. Other
peers (ccxt, pacifica-sdk, pacifica-python-sdk, picows, uvloop) are measured if
they are installed. Let the machine do nothing else meanwhile.

exit status: 0; 1 if an output of ours is wrong or something failed; 2 for wrong
usage; 130 after Ctrl-C, and --resume goes on. Being slow is no error.
"""

COMPLETION: Final = f"""\
examples:
  echo 'eval "$(pacifica-fast completion bash)"' >> ~/.bashrc
  echo 'eval "$(pacifica-fast completion zsh)"'  >> ~/.zshrc   # after compinit
  pacifica-fast completion fish > ~/.config/fish/completions/pacifica-fast.fish

{_OTHER_STATUSES}"""
