package isolate

// stage is a step of making the namespaces.
type stage string

// The steps, in order.
const (
	stageNamespaces   stage = "making user, network and mount namespaces"
	stageLoopback     stage = "bringing up the loopback interface"
	stageRules        stage = "setting nftables rules"
	stageSockets      stage = "opening the listeners inside"
	stageMounts       stage = "mounting a private resolv.conf"
	stageCapabilities stage = "giving up capabilities"
	stageCommand      stage = "executing the command"
)
