package handover

import "syscall"

var keepAliveOptions = map[int]int{syscall.TCP_KEEPIDLE: 15, syscall.TCP_KEEPINTVL: 10, syscall.TCP_KEEPCNT: 3}
