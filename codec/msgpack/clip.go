package msgpack

import "reflect"

// clip takes the spare capacity from every byte slice in v. All of them are parts of
// one copy of the payload: an append to one would write over the next.
func clip(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			clip(v.Elem())
		}
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		e := v.Elem()
		if e.Kind() == reflect.Slice && e.Type().Elem().Kind() == reflect.Uint8 {
			if v.CanSet() {
				v.Set(e.Slice3(0, e.Len(), e.Len()))
			}
			return
		}
		clip(e)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.CanSet() {
				v.SetCap(v.Len())
			}
			return
		}
		fallthrough
	case reflect.Array:
		if !shapes.Of(v.Type().Elem()).HoldsBytes() {
			return
		}
		for i := range v.Len() {
			clip(v.Index(i))
		}
	case reflect.Map:
		if !shapes.Of(v.Type().Elem()).HoldsBytes() {
			return
		}
		value := reflect.New(v.Type().Elem()).Elem()
		for it := v.MapRange(); it.Next(); {
			if k := it.Key(); !k.Equal(k) {
				continue // not a number: setting it again would add it again, without end
			}
			value.Set(it.Value())
			clip(value)
			v.SetMapIndex(it.Key(), value)
		}
	case reflect.Struct:
		for _, i := range shapes.Of(v.Type()).Fields {
			clip(v.Field(i))
		}
	}
}
