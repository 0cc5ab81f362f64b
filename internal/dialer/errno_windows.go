package dialer

import "syscall"

// The numbers of winsock2.h, which package syscall does not have.
const (
	wsaEACCES        = syscall.Errno(10013)
	wsaEINVAL        = syscall.Errno(10022)
	wsaEMFILE        = syscall.Errno(10024)
	wsaEAFNOSUPPORT  = syscall.Errno(10047)
	wsaEADDRINUSE    = syscall.Errno(10048)
	wsaEADDRNOTAVAIL = syscall.Errno(10049)
	wsaENETDOWN      = syscall.Errno(10050)
	wsaENETUNREACH   = syscall.Errno(10051)
	wsaENOBUFS       = syscall.Errno(10055)
	wsaETIMEDOUT     = syscall.Errno(10060)
	wsaECONNREFUSED  = syscall.Errno(10061)
	wsaEHOSTDOWN     = syscall.Errno(10064)
	wsaEHOSTUNREACH  = syscall.Errno(10065)
)

// errnos are the error numbers that a dial may end with.
var errnos = []errno{
	{wsaECONNREFUSED, dialRefused, ""},
	{syscall.WSAECONNRESET, dialReset, ""},
	{syscall.WSAECONNABORTED, dialReset, ""},
	{wsaETIMEDOUT, dialTimeout, ""},
	{wsaENETUNREACH, dialUnreachable, ""},
	{wsaEHOSTUNREACH, dialUnreachable, ""},
	{wsaENETDOWN, dialUnreachable, ""},
	{wsaEHOSTDOWN, dialUnreachable, ""},
	{wsaEACCES, dialUnreachable, textForbids},
	{wsaEINVAL, dialUnreachable, ""},
	{wsaEAFNOSUPPORT, dialUnreachable, ""},
	{wsaEADDRNOTAVAIL, dialLocal, textSource},
	{wsaEADDRINUSE, dialLocal, textSource},
	{wsaEMFILE, dialLocal, textFiles},
	{wsaENOBUFS, dialLocal, textMemory},
}
