package fsm

import "fmt"

// cluster is the cluster's identity, settings and feature level.
type cluster struct {
	ID       string   `cbor:"1,keyasint,omitempty"` // empty until InitCluster
	CACert   []byte   `cbor:"2,keyasint,omitempty"`
	CAKey    []byte   `cbor:"3,keyasint,omitempty"`
	Settings Settings `cbor:"4,keyasint"`
	Level    uint32   `cbor:"5,keyasint"`
}

// applyInitCluster gives the cluster its identity, once.
func (m *machine) applyInitCluster(e *envelope) (Result, error) {
	var c InitCluster
	if err := decodeInitCluster(e.body, &c); err != nil {
		return Result{}, err
	}
	if m.cluster.ID != "" {
		return refuse(CodeConflict, "this is cluster %s already", m.cluster.ID), nil
	}
	m.cluster = cluster{ID: c.ClusterID, CACert: c.CACert, CAKey: c.CAKey, Settings: c.Settings, Level: m.cluster.Level}
	m.limits = m.limits.within(c.Settings)
	if m.nodes[c.First] == nil {
		m.addNode(&node{id: c.First, desc: Node{ID: c.First}})
	}
	m.changes = append(m.changes, Change{Kind: ChangeCluster})
	m.changeNode(c.First)
	return Result{}, nil
}

func decodeInitCluster(b []byte, c *InitCluster) error {
	if err := decodeStrict(b, c); err != nil {
		return err
	}
	if err := validateText("cluster's ID", c.ClusterID, 1, maxKeyBytes); err != nil {
		return err
	}
	if len(c.CACert) == 0 || len(c.CACert) > maxCertBytes || len(c.CAKey) == 0 || len(c.CAKey) > maxCertBytes {
		return fmt.Errorf("the CA's certificate and key must have 1 to %d bytes", maxCertBytes)
	}
	return c.First.validate()
}

// applySetFeatureLevel raises the level, once every node has registered with
// at least it.
func (m *machine) applySetFeatureLevel(e *envelope) (Result, error) {
	var c SetFeatureLevel
	if err := decodeStrict(e.body, &c); err != nil {
		return Result{}, err
	}
	if c.Level < m.cluster.Level {
		return refuse(CodeConflict, "the feature level is %d and never falls", m.cluster.Level), nil
	}
	if c.Level == m.cluster.Level {
		return Result{}, nil
	}
	for _, n := range m.nodeOrder {
		if n.registered && n.desc.featureLevel() < c.Level {
			return refuse(CodeConflict, "node %s knows feature level %d only: upgrade or remove it", n.id, n.desc.featureLevel()), nil
		}
	}
	if c.Level > FeatureLevel {
		return Result{}, &newerError{fmt.Sprintf("feature level %d", c.Level)}
	}
	m.cluster.Level = c.Level
	m.changes = append(m.changes, Change{Kind: ChangeCluster})
	return Result{}, nil
}

// checkBody decodes a command's body as applying it would, without a state.
func checkBody(e *envelope) error {
	switch e.kind {
	case CmdSubmit:
		subs, err := decodeSubmit(e.body, nil)
		for i := 0; i < len(subs) && err == nil; i++ {
			_, err = decodeShape(subs[i].encodedShape)
		}
		return err
	case CmdCancel:
		return decodeCancel(e.body, new(Cancel))
	case CmdAssign:
		_, err := decodeAssign(e.body, nil, func([]byte) *node { return nil })
		return err
	case CmdReport:
		_, _, _, err := decodeReport(e.body, nil)
		return err
	case CmdTick:
		return checkTick(e.body)
	case CmdRegisterNode:
		return decodeRegisterNode(e.body, new(RegisterNode))
	case CmdAdmitNode:
		return decodeAdmitNode(e.body, new(AdmitNode))
	case CmdCreateToken:
		return decodeCreateToken(e.body, new(CreateToken))
	case CmdInitCluster:
		return decodeInitCluster(e.body, new(InitCluster))
	case CmdExpireWorker:
		return decodeStrict(e.body, new(ExpireWorker))
	case CmdDrainNode:
		return decodeStrict(e.body, new(DrainNode))
	case CmdRemoveNode:
		return decodeStrict(e.body, new(RemoveNode))
	case CmdRevokeToken:
		return decodeStrict(e.body, new(RevokeToken))
	case CmdSetFeatureLevel:
		var c SetFeatureLevel
		if err := decodeStrict(e.body, &c); err != nil {
			return err
		}
		if c.Level > FeatureLevel {
			return &newerError{fmt.Sprintf("feature level %d", c.Level)}
		}
	}
	return nil
}
