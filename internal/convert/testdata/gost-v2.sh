#!/bin/sh
exec gost -L=socks5://:1080 \
  -F=http://acme:hunter2n@corp.example:3128 \
  -F "socks5://acme:hunter2%3Ao@tokyo-1.example:1080?ip=tokyo-1.example:1080,tokyo-2.example&strategy=fifo"
