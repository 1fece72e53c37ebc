package impure

import (
	"crypto/rand" // want "imports crypto/rand"
	"fmt"
	"log"          // want "imports log"
	"maps"         // want "imports maps"
	"math/rand/v2" // want "imports math/rand/v2"
	"net"          // want "imports net"
	"os"           // want "imports os"
	"sync"
	"time"
	wall "time" // want "renames the import time"
)

type group struct {
	mu   sync.RWMutex
	once sync.Once // want "uses sync.Once"
}

func clocks() time.Duration {
	start := time.Now()      // want "uses time.Now"
	time.Sleep(time.Second)  // want "uses time.Sleep"
	fmt.Println("hello")     // want "uses fmt.Println"
	println("hello")         // want "prints"
	return time.Since(start) // want "uses time.Since"
}
