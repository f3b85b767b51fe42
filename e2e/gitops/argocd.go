package main

import (
	"context"
	"fmt"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// timeLimit is the time that Argo CD gives a health check.
const timeLimit = time.Second

// statuses are the words that a health check may answer.
var statuses = map[string]bool{
	"Healthy": true, "Progressing": true, "Degraded": true, "Suspended": true, "Missing": true, "Unknown": true,
}

// libraries are those that every health check of Argo CD has: the setting useOpenLibs adds others, such as string and io. Argo CD also has
// two functions for the time of day, which are left out here: a verdict that follows from the object alone needs none.
var libraries = map[string]lua.LGFunction{
	lua.LoadLibName: lua.OpenPackage,
	lua.BaseLibName: lua.OpenBase,
	lua.TabLibName:  lua.OpenTable,
}

// health runs a health check in the sandbox of Argo CD: few libraries, a time limit, and the object in the global variable obj.
func health(script string, object map[string]any) (answer, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	// The package library comes first, because the others register themselves there.
	for _, name := range []string{lua.LoadLibName, lua.BaseLibName, lua.TabLibName} {
		call := lua.P{Fn: state.NewFunction(libraries[name]), Protect: true}
		if err := state.CallByParam(call, lua.LString(name)); err != nil {
			return answer{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeLimit)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(script); err != nil {
		return answer{}, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return answer{}, fmt.Errorf("the health check returned no table, but %s", state.Get(-1).Type())
	}
	var said answer
	var err error
	table.ForEach(func(key, value lua.LValue) {
		text, isText := value.(lua.LString)
		switch {
		case !isText:
			err = fmt.Errorf("%s is no string, but %s", key, value.Type())
		case key.String() == "status":
			said.Status = string(text)
		case key.String() == "message":
			said.Message = string(text)
		default:
			err = fmt.Errorf("the health check returned %s, which Argo CD does not know", key)
		}
	})
	if err == nil && !statuses[said.Status] {
		err = fmt.Errorf("%q is no status of Argo CD", said.Status)
	}
	return said, err
}

// toLua turns a decoded JSON value into one of Lua. A field that is null becomes nil: so the table has no such field.
func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case string:
		return lua.LString(value)
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		table := state.CreateTable(len(value), 0)
		for _, element := range value {
			table.Append(toLua(state, element))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, element := range value {
			table.RawSetString(key, toLua(state, element))
		}
		return table
	default:
		return lua.LNil
	}
}
