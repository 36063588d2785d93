// Package model holds the data that the parts hand to each other: records,
// results, events, samples and the kinds of error.
package model
